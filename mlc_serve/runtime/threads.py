"""Sets how TVM uses threads: one for each core whose time this process may use, bound to a core or not.

By default TVM uses half of the logical CPUs of an x86 machine, because two of them often share a core. But
the CPUs of a virtual machine may be whole cores, and a process's CPU affinity or the CPU limit of its
container may allow it fewer. With more threads than the limit has CPUs, all of them are stopped again and
again, since each product waits for the slowest thread.
"""

from __future__ import annotations

import math
import os

import psutil

from mlc_serve.host.cpu_quota import cpu_quota

NUM_THREADS_VARIABLE = "TVM_NUM_THREADS"
BIND_VARIABLE = "TVM_BIND_THREADS"


def use_every_core() -> None:
    """Set the number of threads and whether they are bound, unless the user has set it in the environment.

    It must be called before the first kernel runs. TVM binds threads to the first cores of the machine,
    whichever of them this process may use. That is faster if the process has the machine to itself, but
    several processes that share one, such as containers, would all compute on the same cores.
    """
    os.environ.setdefault(NUM_THREADS_VARIABLE, str(num_cores()))
    if not _has_the_machine():
        os.environ.setdefault(BIND_VARIABLE, "0")


def num_cores() -> int:
    """Return the number of whole cores whose time this process may use; at least one."""
    usable = _num_usable()
    cores = min(usable, psutil.cpu_count(logical=False) or usable)
    return max(1, math.floor(min(cores, _quota())))


def _has_the_machine() -> bool:
    """Return whether nothing keeps this process from using all of the machine's cores."""
    num_cpus = os.cpu_count() or 1
    return _num_usable() >= num_cpus and _quota() >= (psutil.cpu_count(logical=False) or num_cpus)


def _num_usable() -> int:
    """Return the number of logical CPUs that the process's affinity includes."""
    can_tell = hasattr(psutil.Process, "cpu_affinity")  # not on macOS
    return len(psutil.Process().cpu_affinity()) if can_tell else os.cpu_count() or 1


def _quota() -> float:
    quota = cpu_quota()
    return math.inf if quota is None else quota

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
BIND_THREADS_VARIABLE = "TVM_BIND_THREADS"


def use_every_core() -> None:
    """Set the number of threads and whether they are bound, unless the user has set it in the environment.

    It must be called before the first kernel runs.
    """
    use_cores(num_cores())


def use_cores(number: int) -> None:
    """Like `use_every_core`, with this number of threads. A later call of either has no effect.

    TVM binds threads to the first cores of the machine, whichever of them this process may use. That is
    faster if the process has the machine to itself, but several processes that share one, such as containers,
    would all compute on the same cores.
    """
    os.environ.setdefault(NUM_THREADS_VARIABLE, str(number))
    if not _has_the_machine(os.environ[NUM_THREADS_VARIABLE]):
        os.environ.setdefault(BIND_THREADS_VARIABLE, "0")


def num_cores() -> int:
    """Return the number of whole cores whose time this process may use; at least one."""
    usable, quota = _num_usable(), cpu_quota()
    cores = min(usable, psutil.cpu_count(logical=False) or usable)
    return max(1, cores if quota is None else min(cores, math.floor(quota)))


def _has_the_machine(num_threads: str) -> bool:
    """Return whether there is a thread for each core of the machine, all of which this process may use."""
    num_cpus = os.cpu_count() or 1
    cores = psutil.cpu_count(logical=False) or num_cpus
    return _num_usable() >= num_cpus and num_threads.isdecimal() and int(num_threads) >= cores


def _num_usable() -> int:
    """Return the number of logical CPUs that the process's affinity includes."""
    can_tell = hasattr(psutil.Process, "cpu_affinity")  # not on macOS
    return len(psutil.Process().cpu_affinity()) if can_tell else os.cpu_count() or 1

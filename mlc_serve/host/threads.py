"""Sets the number of threads that TVM computes with: one for each core that this process may use.

By default TVM uses half of the logical CPUs of an x86 machine, because two of them often share a core. But
the CPUs of a virtual machine may be whole cores, and a process's CPU affinity may allow it fewer.
"""

from __future__ import annotations

import os

import psutil

NUM_THREADS_VARIABLE = "TVM_NUM_THREADS"
BIND_THREADS_VARIABLE = "TVM_BIND_THREADS"


def use_every_core() -> None:
    """Set the number of threads, unless the user has set it in the environment.

    It must be called before the first kernel runs.
    """
    use_cores(num_cores())


def use_cores(number: int) -> None:
    """Like `use_every_core`, with this number of threads. A later call of either has no effect.

    If these are not all cores, the threads are not bound to cores, because those of another process with a
    part of the cores would be bound to the same ones.
    """
    os.environ.setdefault(NUM_THREADS_VARIABLE, str(number))
    if number < num_cores():
        os.environ.setdefault(BIND_THREADS_VARIABLE, "0")


def num_cores() -> int:
    """Return the number of cores that this process may run on; at least one."""
    can_tell = hasattr(psutil.Process, "cpu_affinity")  # not on macOS
    usable = len(psutil.Process().cpu_affinity()) if can_tell else os.cpu_count() or 1
    return max(1, min(usable, psutil.cpu_count(logical=False) or usable))

"""How many threads TVM computes with: one for each core that this process may use.

Left alone, TVM takes half of the logical CPUs of an x86 machine, because two of them often share a core.
Virtual machines have CPUs that are whole cores, and affinity may leave a process fewer than the machine has.
"""

from __future__ import annotations

import os

import psutil

NUM_THREADS_VARIABLE = "TVM_NUM_THREADS"


def use_every_core() -> None:
    """To be called before the first kernel runs. A number that the user has set in the environment stays."""
    os.environ.setdefault(NUM_THREADS_VARIABLE, str(num_cores()))


def num_cores() -> int:
    """Cores that this process may run on; at least one."""
    can_tell = hasattr(psutil.Process, "cpu_affinity")  # not on macOS
    usable = len(psutil.Process().cpu_affinity()) if can_tell else os.cpu_count() or 1
    return max(1, min(usable, psutil.cpu_count(logical=False) or usable))

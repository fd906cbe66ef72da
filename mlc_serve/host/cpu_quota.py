"""How much CPU time this process's cgroups allow, which is what the CPU limit of a container sets.

Neither the number of CPUs nor the affinity of the process shows such a limit: a container that may use two
CPUs of 64 sees all 64, and is stopped for the rest of each period (100 ms) in which it has used up its time.
"""

from __future__ import annotations

from pathlib import Path

from mlc_serve.host.cgroups import CGROUP_ROOT, OWN_CGROUP, cgroup_folders, read_text


def cpu_quota(root: Path = CGROUP_ROOT, own_cgroup: Path = OWN_CGROUP) -> float | None:
    """Return how many CPUs' time this process may use on average; None if nothing limits it.

    `root` and `own_cgroup` are those of `cgroup_folders`.
    """
    folders = cgroup_folders("cpu", root, own_cgroup)
    limits = [limit for folder in folders for limit in (_of_version_2(folder), _of_version_1(folder))]
    return min((limit for limit in limits if limit is not None), default=None)


def _of_version_2(folder: Path) -> float | None:
    """Return the limit in `cpu.max`, which contains the time and the period, or `max` and the period."""
    quota, _, period = read_text(folder / "cpu.max").partition(" ")
    return _share(quota, period)


def _of_version_1(folder: Path) -> float | None:
    """Return the limit in two files; a time of -1 is no limit."""
    return _share(read_text(folder / "cpu.cfs_quota_us"), read_text(folder / "cpu.cfs_period_us"))


def _share(quota: str, period: str) -> float | None:
    is_limit = quota.isdecimal() and period.isdecimal() and int(period) > 0
    return int(quota) / int(period) if is_limit else None

"""How much more memory this process may take from the host, given what is free and what its cgroups allow."""

from __future__ import annotations

from pathlib import Path

import psutil

from mlc_serve.host.cgroups import CGROUP_ROOT, OWN_CGROUP, cgroup_folders, read_text


def free_host_bytes(root: Path = CGROUP_ROOT, own_cgroup: Path = OWN_CGROUP) -> int:
    """How many bytes can be allocated without swapping and without being killed for it.

    `root` and `own_cgroup` are those of `cgroup_folders`.
    """
    free = [int(psutil.virtual_memory().available)]
    for folder in cgroup_folders("memory", root, own_cgroup):
        for limit, usage in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            left = _left(folder, limit, usage)
            if left is not None:
                free.append(left)
    return max(min(free), 0)


def _left(folder: Path, limit: str, usage: str) -> int | None:
    """How many bytes a cgroup still allows; its reclaimable file cache counts as free.

    None if the cgroup sets no limit.
    """
    limit_text, usage_text = read_text(folder / limit), read_text(folder / usage)
    if not (limit_text.isdecimal() and usage_text.isdecimal()):
        return None
    return int(limit_text) - int(usage_text) + _reclaimable(folder)


def _reclaimable(folder: Path) -> int:
    lines = (line.split() for line in read_text(folder / "memory.stat").splitlines())
    return next((int(value) for name, value in lines if name in {"inactive_file", "total_inactive_file"}), 0)

"""How much more memory this process may take from the host, given what is free and what its cgroups allow."""

from __future__ import annotations

from pathlib import Path

import psutil

CGROUP_ROOT = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def free_host_bytes(root: Path = CGROUP_ROOT, own_cgroup: Path = OWN_CGROUP) -> int:
    """How many bytes can be allocated without swapping and without being killed for it.

    `root` is where cgroups are mounted, and `own_cgroup` is the file that names this process's cgroups.
    """
    free = [int(psutil.virtual_memory().available)]
    for folder in _cgroup_folders(root, own_cgroup):
        for limit, usage in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            left = _left(folder, limit, usage)
            if left is not None:
                free.append(left)
    return max(min(free), 0)


def _cgroup_folders(root: Path, own_cgroup: Path) -> list[Path]:
    """Folders of this process's cgroups (version 2, or version 1's memory controller) up to the root."""
    folders = [root, root / "memory"]
    for line in _read(own_cgroup).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in {"", "memory"}:
            continue
        mount = root / controllers
        own = mount / path.lstrip("/")
        folders += [own, *(parent for parent in own.parents if mount in parent.parents)]
    return folders


def _left(folder: Path, limit: str, usage: str) -> int | None:
    """How many bytes a cgroup still allows; its reclaimable file cache counts as free.

    None if the cgroup sets no limit.
    """
    limit_text, usage_text = _read(folder / limit).strip(), _read(folder / usage).strip()
    if not (limit_text.isdecimal() and usage_text.isdecimal()):
        return None
    return int(limit_text) - int(usage_text) + _reclaimable(folder)


def _reclaimable(folder: Path) -> int:
    lines = (line.split() for line in _read(folder / "memory.stat").splitlines())
    return next((int(value) for name, value in lines if name in {"inactive_file", "total_inactive_file"}), 0)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""

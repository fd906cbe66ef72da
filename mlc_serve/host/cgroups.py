"""The control groups (cgroups) that this process is in, of version 2 or of a controller of version 1.

A container's limits on memory and CPU time are those of its cgroups. Each cgroup is a folder. Those that
limit a process are its own cgroup and all that are above it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def cgroup_folders(controller: str, root: Path = CGROUP_ROOT, own_cgroup: Path = OWN_CGROUP) -> list[Path]:
    """Return the folders of this process's cgroups, of version 2 and of a `controller` of version 1, up to
    the mounted roots.

    `root` is where cgroups are mounted, and `own_cgroup` is the file that names this process's cgroups. A
    folder may be missing: inside a container, the file may name folders that only its host sees.
    """
    folders = [root, root / controller]
    for mount, path in _memberships(controller, root, own_cgroup):
        own = mount / path.lstrip("/")
        folders += [own, *(parent for parent in own.parents if mount in parent.parents)]
    return list(dict.fromkeys(folders))


def _memberships(controller: str, root: Path, own_cgroup: Path) -> Iterator[tuple[Path, str]]:
    """Yield where each hierarchy that matters is mounted, and the path of this process's cgroup in it."""
    for line in read_text(own_cgroup).splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield root, path
        elif controller in controllers.split(","):
            yield root / controller, path  # controllers that are mounted together have a link for each


def read_text(path: Path) -> str:
    """Return the content of one of the system's files without white space around it; "" if there is none."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""

"""What the host still has free, under control groups of either version."""

from __future__ import annotations

from pathlib import Path

import psutil

from mlc_serve.host.memory import free_host_bytes
from tests.cgroups import own, write

KIB = 1024


def test_without_cgroups_the_machine_decides(tmp_path: Path) -> None:
    """No cgroup files: what the operating system calls available."""
    free = free_host_bytes(tmp_path / "none", tmp_path / "nothing")
    assert 0 < free <= psutil.virtual_memory().total


def test_a_version_2_limit_counts(tmp_path: Path) -> None:
    """memory.max less memory.current is free, and so is reclaimable file cache."""
    write(
        tmp_path / "a",
        memory__max=f"{64 * KIB}\n",
        memory__current=f"{24 * KIB}\n",
        memory__stat="inactive_file 4096\n",
    )
    assert free_host_bytes(tmp_path, own(tmp_path, "0::/a\n")) == 44 * KIB


def test_a_limit_of_a_parent_counts(tmp_path: Path) -> None:
    """The tightest of the nested cgroups decides; 'max' is no limit."""
    write(tmp_path / "a", memory__max=f"{32 * KIB}", memory__current=f"{16 * KIB}")
    write(tmp_path / "a" / "b", memory__max="max", memory__current=f"{8 * KIB}")
    assert free_host_bytes(tmp_path, own(tmp_path, "0::/a/b\n")) == 16 * KIB


def test_a_version_1_limit_counts(tmp_path: Path) -> None:
    """The memory controller of version 1 has its own mount and file names."""
    write(
        tmp_path / "memory" / "job", memory__limit_in_bytes=f"{8 * KIB}", memory__usage_in_bytes=f"{2 * KIB}"
    )
    assert free_host_bytes(tmp_path, own(tmp_path, "9:name=systemd:/x\n4:memory:/job\n")) == 6 * KIB


def test_an_exceeded_limit_leaves_nothing(tmp_path: Path) -> None:
    """Usage above the limit is zero bytes free, not fewer."""
    write(tmp_path, memory__max="100", memory__current="200")
    assert free_host_bytes(tmp_path, own(tmp_path, "0::/\n")) == 0

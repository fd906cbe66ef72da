"""How many CPUs' time a process may use, under control groups of either version."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlc_serve.host.cpu_quota import cpu_quota
from tests.cgroups import own, write


def test_without_cgroups_nothing_limits(tmp_path: Path) -> None:
    """No cgroup files: there is no limit."""
    assert cpu_quota(tmp_path / "none", tmp_path / "nothing") is None


@pytest.mark.parametrize(
    ("text", "cpus"),
    [("200000 100000\n", 2.0), ("50000 100000\n", 0.5), ("max 100000\n", None), ("150000 50000\n", 3.0)],
)
def test_a_version_2_limit_counts(text: str, cpus: float | None, tmp_path: Path) -> None:
    """cpu.max has the time that may be used in each period; 'max' is no limit."""
    write(tmp_path / "pod", cpu__max=text)
    assert cpu_quota(tmp_path, own(tmp_path, "0::/pod\n")) == cpus


def test_a_container_with_a_namespace_of_its_own_sees_its_limit(tmp_path: Path) -> None:
    """There the process's own cgroup is the root that is mounted, as in containers of Kubernetes."""
    write(tmp_path, cpu__max="400000 100000\n")
    assert cpu_quota(tmp_path, own(tmp_path, "0::/\n")) == 4.0


def test_the_tightest_of_nested_limits_counts(tmp_path: Path) -> None:
    """The limit of a pod counts for its containers, whether theirs is larger or missing."""
    write(tmp_path / "pod", cpu__max="100000 100000\n")
    write(tmp_path / "pod" / "a", cpu__max="300000 100000\n")
    assert cpu_quota(tmp_path, own(tmp_path, "0::/pod/a\n")) == 1.0


@pytest.mark.parametrize(("quota", "cpus"), [("250000", 2.5), ("-1", None)])
def test_a_version_1_limit_counts(quota: str, cpus: float | None, tmp_path: Path) -> None:
    """Two files of the CPU controller, which may be mounted together with others; -1 is no limit."""
    write(tmp_path / "cpu" / "job", cpu__cfs_quota_us=f"{quota}\n", cpu__cfs_period_us="100000\n")
    assert cpu_quota(tmp_path, own(tmp_path, "9:name=systemd:/x\n4:cpu,cpuacct:/job\n")) == cpus


@pytest.mark.parametrize("text", ["", "100000", "100000 0", "-5 100000", "two CPUs"])
def test_what_is_no_limit_is_none(text: str, tmp_path: Path) -> None:
    """A file of another form sets no limit and is no error."""
    write(tmp_path, cpu__max=text)
    assert cpu_quota(tmp_path, own(tmp_path, "0::/\n")) is None

"""TVM uses as many threads as the process may use cores, and binds them if nobody else uses these."""

from __future__ import annotations

import os
from collections.abc import Callable

import psutil
import pytest

from mlc_serve.host import threads
from mlc_serve.host.threads import (
    BIND_THREADS_VARIABLE,
    NUM_THREADS_VARIABLE,
    num_cores,
    use_cores,
    use_every_core,
)


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user has set nothing in the environment, and what a test sets there is taken back."""
    for variable in (NUM_THREADS_VARIABLE, BIND_THREADS_VARIABLE):
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, float | None], None]:
    """Pretend that the machine has eight cores, and set the affinity and the quota of the process."""

    def pretend(usable: int, quota: float | None) -> None:
        monkeypatch.setattr(psutil.Process, "cpu_affinity", lambda self: list(range(usable)), raising=False)
        monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: 8)
        monkeypatch.setattr(os, "cpu_count", lambda: 8)
        monkeypatch.setattr(threads, "cpu_quota", lambda: quota)

    return pretend


def test_every_core_is_used() -> None:
    """If the user sets nothing, there is one thread per core, and never more than the machine has CPUs."""
    use_every_core()
    assert os.environ[NUM_THREADS_VARIABLE] == str(num_cores())
    assert 1 <= num_cores() <= psutil.cpu_count()


def test_affinity_bounds_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that may run on one CPU only computes with one thread."""
    monkeypatch.setattr(psutil.Process, "cpu_affinity", lambda self: [0], raising=False)
    assert num_cores() == 1


@pytest.mark.parametrize(
    ("quota", "cores"), [(None, 8), (0.5, 1), (1.0, 1), (3.9, 3), (8.0, 8), (64.0, 8)], ids=str
)
def test_the_limit_of_a_container_bounds_the_threads(
    quota: float | None, cores: int, machine: Callable[[int, float | None], None]
) -> None:
    """There are as many threads as the limit has whole CPUs, but at least one and no more than cores."""
    machine(8, quota)
    assert num_cores() == cores


@pytest.mark.parametrize(
    ("usable", "quota", "binding"),
    [(8, None, None), (8, 8.0, None), (8, 4.0, "0"), (4, None, "0"), (4, 4.0, "0")],
)
def test_threads_are_bound_only_if_the_process_has_the_machine(
    usable: int,
    quota: float | None,
    binding: str | None,
    machine: Callable[[int, float | None], None],
) -> None:
    """If it may use only a part of the cores, others use the rest, and would be bound to the same cores."""
    machine(usable, quota)
    use_every_core()
    assert os.environ.get(BIND_THREADS_VARIABLE) == binding


def test_a_share_of_the_cores_is_kept(machine: Callable[[int, float | None], None]) -> None:
    """A process that was given some of the cores does not use every one later, and binds no thread to a core
    that another such process would bind to as well. It does not matter who has set the number.
    """
    machine(8, None)
    use_cores(3)
    use_every_core()
    assert (os.environ[NUM_THREADS_VARIABLE], os.environ[BIND_THREADS_VARIABLE]) == ("3", "0")


def test_what_the_user_set_stays(
    monkeypatch: pytest.MonkeyPatch, machine: Callable[[int, float | None], None]
) -> None:
    """What the user set in the environment is kept."""
    machine(4, 2.0)
    monkeypatch.setenv(NUM_THREADS_VARIABLE, "7")
    monkeypatch.setenv(BIND_THREADS_VARIABLE, "1")
    use_every_core()
    assert (os.environ[NUM_THREADS_VARIABLE], os.environ[BIND_THREADS_VARIABLE]) == ("7", "1")

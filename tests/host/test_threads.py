"""TVM uses as many threads as the process may use cores."""

from __future__ import annotations

import os

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


def test_every_core_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the user sets nothing, there is one thread per core, and never more than the machine has CPUs."""
    monkeypatch.delenv(NUM_THREADS_VARIABLE, raising=False)
    use_every_core()
    assert os.environ[NUM_THREADS_VARIABLE] == str(num_cores())
    assert 1 <= num_cores() <= psutil.cpu_count()


def test_affinity_bounds_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that may run on one CPU only computes with one thread."""
    monkeypatch.setattr(psutil.Process, "cpu_affinity", lambda self: [0], raising=False)
    assert num_cores() == 1


def test_what_the_user_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number of threads that the user set in the environment is kept."""
    monkeypatch.setenv(NUM_THREADS_VARIABLE, "7")
    use_every_core()
    assert os.environ[NUM_THREADS_VARIABLE] == "7"


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither variable is set, and what a test sets is undone."""
    for name in (NUM_THREADS_VARIABLE, BIND_THREADS_VARIABLE):
        monkeypatch.setenv(name, "1")
        monkeypatch.delenv(name)


@pytest.mark.usefixtures("unset")
def test_a_share_of_the_cores_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was given some of the cores does not use every one later, and binds no thread to a core
    that another such process would bind to as well.
    """
    monkeypatch.setattr(threads, "num_cores", lambda: 8)
    use_cores(3)
    use_every_core()
    assert os.environ[NUM_THREADS_VARIABLE] == "3"
    assert os.environ[BIND_THREADS_VARIABLE] == "0"


@pytest.mark.usefixtures("unset")
def test_a_process_with_all_cores_binds_its_threads() -> None:
    """TVM's own choice, which is faster, is kept."""
    use_cores(num_cores())
    assert BIND_THREADS_VARIABLE not in os.environ

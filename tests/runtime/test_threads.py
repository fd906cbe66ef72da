"""TVM's threads are as many as the cores that may be used."""

from __future__ import annotations

import os

import psutil
import pytest

from mlc_serve.runtime.threads import NUM_THREADS_VARIABLE, num_cores, use_every_core


def test_every_core_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the user is silent, there is a thread a core, and never more than the process may run on."""
    monkeypatch.delenv(NUM_THREADS_VARIABLE, raising=False)
    use_every_core()
    assert os.environ[NUM_THREADS_VARIABLE] == str(num_cores())
    assert 1 <= num_cores() <= psutil.cpu_count()


def test_affinity_bounds_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was put on one CPU computes with one thread."""
    monkeypatch.setattr(psutil.Process, "cpu_affinity", lambda self: [0], raising=False)
    assert num_cores() == 1


def test_what_the_user_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment wins."""
    monkeypatch.setenv(NUM_THREADS_VARIABLE, "7")
    use_every_core()
    assert os.environ[NUM_THREADS_VARIABLE] == "7"

"""A directory of the cache is there whole, or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mlc_serve.artifacts import ABANDONED_AFTER, HOME_VARIABLE, artifact, cache_home, host_cpu, source_hash
from mlc_serve.errors import CompileError, StartupError

HALF_WRITTEN = """
import sys
from mlc_serve.artifacts import artifact

def make(directory):
    (directory / "half").write_text("half")
    print("half-way", flush=True)
    sys.stdin.read()

artifact("things", {"a": 1}, make)
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    return tmp_path / "home"


def write(directory: Path) -> None:
    """Make an artifact of one file."""
    (directory / "file").write_text("content")


def refuse(directory: Path) -> None:
    """What must not be called."""
    raise AssertionError(directory)


def listed(home: Path) -> list[str]:
    """Names of what is there, finished or not."""
    return sorted(path.name for path in home.glob("things/*"))


def test_an_artifact_is_made_once(home: Path) -> None:
    """The second time it is found; its key lies with it, for people to read."""
    made = artifact("things", {"b": [1, None], "a": "x"}, write)
    assert artifact("things", {"a": "x", "b": [1, None]}, refuse) == made
    assert (made / "file").read_text() == "content"
    assert '"a": "x"' in (made / "key.json").read_text()
    assert listed(home) == [made.name]


@pytest.mark.parametrize("other", [{}, {"a": 2}, {"a": "1"}, {"a": 1, "b": 1}])
def test_another_key_is_another_artifact(other: dict[str, Any]) -> None:
    """As is the same key of another kind."""
    one = artifact("things", {"a": 1}, write)
    assert artifact("things", other, write) != one
    assert artifact("others", {"a": 1}, write) != one


def test_a_failure_leaves_nothing(home: Path) -> None:
    """What `make` raises comes through, and the next try starts anew."""

    def fail(directory: Path) -> None:
        write(directory)
        raise CompileError("no luck")

    with pytest.raises(CompileError, match="no luck"):
        artifact("things", {"a": 1}, fail)
    assert listed(home) == []
    assert (artifact("things", {"a": 1}, write) / "file").exists()


def test_of_several_at_once_the_first_wins(home: Path) -> None:
    """All find one sound directory, and nothing of the others' is left."""
    num_racers = 4
    barrier = threading.Barrier(num_racers)

    def race(number: int) -> Path:
        def make(directory: Path) -> None:
            (directory / "file").write_text(str(number) * 1000)
            barrier.wait(timeout=30)

        return artifact("things", {"a": 1}, make)

    with ThreadPoolExecutor(num_racers) as pool:
        (found,) = set(pool.map(race, range(num_racers)))
    assert len(set((found / "file").read_text())) == 1
    assert listed(home) == [found.name]


def test_a_process_that_is_killed_leaves_no_artifact(home: Path) -> None:
    """What it had written is not taken for the whole."""
    with subprocess.Popen(
        [sys.executable, "-c", HALF_WRITTEN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half-way\n"
        process.send_signal(signal.SIGKILL)
    assert [name for name in listed(home) if not name.startswith(".")] == []
    assert not (artifact("things", {"a": 1}, write) / "half").exists()


def test_a_cache_that_can_not_be_written_is_named(home: Path) -> None:
    """Where it is, and why not."""
    home.write_text("a file")
    with pytest.raises(StartupError, match=f"the cache in {home} can't be written: .+"):
        artifact("things", {"a": 1}, write)


def test_the_cache_is_where_the_user_says(
    monkeypatch: pytest.MonkeyPatch, home: Path, tmp_path: Path
) -> None:
    """Our variable, else the desktop's, else the home directory."""
    assert cache_home() == home
    monkeypatch.delenv(HOME_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_home() == tmp_path / "mlc_serve"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_home() == tmp_path / ".cache" / "mlc_serve"


def test_names_are_stable() -> None:
    """The same machine and the same code have the same names; other packages another."""
    assert host_cpu() == host_cpu() != ""
    assert source_hash("models") == source_hash("models") != source_hash("quantization")


def test_what_killed_processes_left_behind_is_thrown_away(home: Path) -> None:
    """A directory begun days ago goes when the next artifact is made; one that is being made stays."""
    for name, age in ((".old-1", ABANDONED_AFTER + 60), (".new-1", 60)):
        unfinished = home / "things" / name
        unfinished.mkdir(parents=True)
        begun = time.time() - age
        os.utime(unfinished, (begun, begun))
    made = artifact("things", {"a": 1}, write)
    assert listed(home) == [".new-1", made.name]

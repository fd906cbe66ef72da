"""Directories that are being filled: whole under their name, and gone when their maker is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlc_serve.host import unfinished as module
from mlc_serve.host.unfinished import ABANDONED_AFTER, remove_abandoned, unfinished

FILLS_FOR_EVER = """
import sys
from pathlib import Path
from mlc_serve.host.unfinished import unfinished

with unfinished(Path(sys.argv[1]), "thing") as directory:
    (directory / "half").write_text("half")
    print("half-way", flush=True)
    sys.stdin.read()
"""


def names(folder: Path) -> list[str]:
    """What is in a folder."""
    return sorted(path.name for path in folder.iterdir())


def start(folder: Path) -> subprocess.Popen[str]:
    """A process that fills a directory and does not finish."""
    process = subprocess.Popen(
        [sys.executable, "-c", FILLS_FOR_EVER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "half-way\n"
    return process


def test_what_was_filled_gets_its_name(tmp_path: Path) -> None:
    """Nothing else is left, and it has the rights that any new directory has."""
    with unfinished(tmp_path, "thing") as directory:
        (directory / "file").write_text("content")
        assert not (tmp_path / "thing").exists()
        directory.rename(tmp_path / "thing")
    (tmp_path / "other").mkdir()
    assert names(tmp_path) == ["other", "thing"]
    assert names(tmp_path / "thing") == ["file"]
    assert (tmp_path / "thing").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    """Whatever it is."""

    def fail() -> None:
        with unfinished(tmp_path, "thing") as directory:
            (directory / "file").write_text("content")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert names(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such signal")
def test_what_a_killed_process_has_left_is_removed_by_the_next(tmp_path: Path) -> None:
    """At once, and what a living process fills is left alone."""
    with start(tmp_path) as killed, start(tmp_path) as living:
        assert len(names(tmp_path)) == 2
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        with unfinished(tmp_path, "another"):
            assert len(names(tmp_path)) == 2
        (left,) = names(tmp_path)
        living.communicate("")
    assert left.startswith(".thing-")
    assert names(tmp_path) == []


def test_without_locks_age_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk may have none: what was begun days ago is removed then."""
    monkeypatch.setattr(module, "_lock", lambda descriptor: False)
    with unfinished(tmp_path, "thing") as directory:
        for age, kept in ((60, True), (ABANDONED_AFTER + 60, False)):
            begun = time.time() - age
            os.utime(directory.parent, (begun, begun))
            remove_abandoned(tmp_path)
            assert directory.exists() is kept


def test_other_hidden_directories_are_no_concern(tmp_path: Path) -> None:
    """A folder may be anybody's."""
    (tmp_path / ".thing-1").mkdir()
    with unfinished(tmp_path, "thing"):
        pass
    assert names(tmp_path) == [".thing-1"]

"""A directory of the cache is complete, or not there at all."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mlc_serve.errors import CompileError, DamagedArtifactError, DiskFullError, StartupError
from mlc_serve.loading import artifacts
from mlc_serve.loading.artifacts import HOME_VARIABLE, artifact, cache_home, host_cpu, source_hash
from tests.patience import PATIENCE

HALF_WRITTEN = """
import sys
from mlc_serve.loading.artifacts import artifact

def make(directory):
    (directory / "half").write_text("half")
    print("half-way", flush=True)
    sys.stdin.read()

artifact("things", {"a": 1}, make, lambda directory: directory, report=print)
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    return tmp_path / "home"


def write(directory: Path) -> None:
    """Make an artifact of one file."""
    (directory / "file").write_text("content")


def no_report(line: str) -> None:
    """Fail if anything is reported."""
    raise AssertionError(line)


def refuse(directory: Path) -> None:
    """Fail if it is called."""
    raise AssertionError(directory)


def get(
    key: dict[str, Any],
    make: Callable[[Path], None] = write,
    kind: str = "things",
    report: Callable[[str], object] = no_report,
) -> Path:
    """The directory of an artifact; by default nothing may be reported about it."""
    return artifact(kind, key, make, lambda directory: directory, report=report)


def listed(home: Path) -> list[str]:
    """The names of all directories in the cache, finished or not."""
    return sorted(path.name for path in home.glob("things/*"))


def test_an_artifact_is_made_once(home: Path) -> None:
    """The second time, the artifact is found; its directory has its key, for people to read."""
    made = get({"b": [1, None], "a": "x"})
    assert get({"a": "x", "b": [1, None]}, refuse) == made
    assert (made / "file").read_text() == "content"
    assert '"a": "x"' in (made / "key.json").read_text()
    assert listed(home) == [made.name]


@pytest.mark.parametrize("other", [{}, {"a": 2}, {"a": "1"}, {"a": 1, "b": 1}])
def test_another_key_is_another_artifact(other: dict[str, Any]) -> None:
    """Another key gives another artifact, and so does the same key of another kind."""
    one = get({"a": 1})
    assert get(other) != one
    assert get({"a": 1}, kind="others") != one


def test_a_failure_leaves_nothing(home: Path) -> None:
    """What `make` raises reaches the caller, nothing is left, and the next try starts from the beginning."""

    def fail(directory: Path) -> None:
        write(directory)
        raise CompileError("no luck")

    with pytest.raises(CompileError, match="no luck"):
        get({"a": 1}, fail)
    assert listed(home) == []
    assert (get({"a": 1}) / "file").exists()


def test_of_several_at_once_the_first_wins(home: Path) -> None:
    """All makers get the same complete directory, and nothing is left of the others."""
    num_racers = 4
    barrier = threading.Barrier(num_racers)

    def race(number: int) -> Path:
        def make(directory: Path) -> None:
            (directory / "file").write_text(str(number) * 1000)
            barrier.wait(timeout=PATIENCE)

        return get({"a": 1}, make)

    with ThreadPoolExecutor(num_racers) as pool:
        (found,) = set(pool.map(race, range(num_racers)))
    assert len(set((found / "file").read_text())) == 1
    assert listed(home) == [found.name]


def test_a_process_that_is_killed_leaves_no_artifact(home: Path) -> None:
    """What a killed process had half written is not taken for an artifact."""
    with subprocess.Popen(
        [sys.executable, "-c", HALF_WRITTEN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half-way\n"
        process.send_signal(signal.SIGKILL)
    assert [name for name in listed(home) if not name.startswith(".")] == []
    made = get({"a": 1})
    assert not (made / "half").exists()
    assert listed(home) == [made.name]


def test_a_cache_that_can_not_be_written_is_named(home: Path) -> None:
    """The error says where the cache is, and why it can't be written."""
    home.write_text("a file")
    with pytest.raises(StartupError, match=f"the cache in {home} can't be written: .+"):
        get({"a": 1})


def test_the_cache_is_where_the_user_says(
    monkeypatch: pytest.MonkeyPatch, home: Path, tmp_path: Path
) -> None:
    """Our variable decides where the cache is, else XDG_CACHE_HOME, else the home directory."""
    assert cache_home() == home
    monkeypatch.delenv(HOME_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_home() == tmp_path / "mlc_serve"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_home() == tmp_path / ".cache" / "mlc_serve"


def test_names_are_stable() -> None:
    """The same machine and the same code give the same names; another package gives another hash."""
    assert host_cpu() == host_cpu() != ""
    assert source_hash("models") == source_hash("models") != source_hash("quantization")


def cut(path: Path) -> None:
    """Remove the second half of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def change(path: Path) -> None:
    """Replace a file by as many zeros."""
    path.write_bytes(bytes(path.stat().st_size))


def make_unreadable(path: Path) -> None:
    """Replace a file by a directory."""
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [cut, change, Path.unlink, make_unreadable])
@pytest.mark.parametrize("file", ["file", "key.json", "about.json"])
def test_a_damaged_entry_is_named_and_made_again(
    home: Path, file: str, damage: Callable[[Path], None]
) -> None:
    """Whichever file is damaged, and however, one line names it, and the artifact is made again."""
    made = get({"a": 1})
    before = {path.name: path.read_bytes() for path in made.iterdir()}
    damage(made / file)
    lines: list[str] = []
    assert get({"a": 1}, report=lines.append) == made
    assert {path.name: path.read_bytes() for path in made.iterdir()} == before
    (line,) = lines
    assert line.startswith(f"{made / file} ")
    assert line.endswith("it is made again.")
    assert "\n" not in line
    assert listed(home) == [made.name]


@pytest.mark.parametrize("about", ["[]", "3", '{"model": 1}', '{"files": []}', '{"files": {"file": 1}}'])
def test_what_is_noted_of_an_entry_may_be_anything(about: str) -> None:
    """An about.json with any other content than a record of the files counts as damage."""
    made = get({"a": 1})
    (made / "about.json").write_text(about)
    lines: list[str] = []
    get({"a": 1}, report=lines.append)
    assert len(lines) == 1
    assert json.loads((made / "about.json").read_text())["files"].keys() == {"file"}


def test_what_its_reader_finds_damaged_is_made_again() -> None:
    """An artifact that its reader finds damaged is made again, but only once; then it is an error."""
    calls: list[str] = []

    def use(directory: Path) -> str:
        calls.append(directory.name)
        if len(calls) in (2, 4, 5):
            raise DamagedArtifactError(f"{directory}: other bytes")
        return "used"

    def get_used(report: Callable[[str], object]) -> str:
        return artifact("things", {"a": 1}, write, use, report=report)

    lines: list[str] = []
    assert get_used(no_report) == "used"
    assert get_used(lines.append) == "used"
    with pytest.raises(DamagedArtifactError, match="other bytes"):
        get_used(lines.append)
    assert [line.partition(": ")[2] for line in lines] == ["other bytes; it is made again."] * 2


def test_damage_in_a_cache_that_can_not_be_written_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line has the file, what is wrong with it, and why it can't be made again."""
    made = get({"a": 1})
    cut(made / "file")

    def refuse_to_remove(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("shutil.rmtree", refuse_to_remove)
    with pytest.raises(StartupError) as told:
        get({"a": 1}, refuse, report=lambda line: None)
    assert str(told.value) == (
        f"{made / 'file'} is damaged: it has 3 bytes of the 7 that were written, "
        "and can't be removed to be made again: Permission denied"
    )


def test_a_full_disk_is_told_as_one(home: Path) -> None:
    """The error of a full disk names the directory and how much is free there; nothing is left."""

    def fill(directory: Path) -> None:
        write(directory)
        raise OSError(28, "No space left on device", str(directory / "file"))

    with pytest.raises(DiskFullError, match=rf"^{home}/things: the disk is full; .* are free$"):
        get({"a": 1}, fill)
    assert listed(home) == []


def test_all_that_is_in_the_cache_is_listed(home: Path) -> None:
    """Damaged artifacts are listed too, so that they can be removed."""
    made = get({"a": 1}, kind="libraries")
    (found,) = artifacts.artifacts()
    assert (found.directory, found.key) == (made, {"a": 1})
    for name in ("key.json", "about.json"):
        (made / name).write_text("[1")
    (found,) = artifacts.artifacts()
    assert (found.directory, found.key, found.model) == (made, {}, "")

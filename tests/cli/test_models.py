"""`mlc_serve models`: the table, JSON, and the question before something is removed."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from mlc_serve import cli
from mlc_serve.loading.artifacts import HOME_VARIABLE, artifact


class Person(io.StringIO):
    """Somebody at a terminal, and what they type."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with one library of 5 MB, and no downloads."""
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    monkeypatch.setattr("mlc_serve.interface.models.downloads", lambda: iter(()))
    key = {"quantization": "q0f32", "device": "cpu"}
    return artifact(
        "libraries",
        key,
        lambda path: fill(path / "model.so"),
        lambda path: path,
        model="/models/mine",
        report=print,
    )


def fill(file: Path) -> None:
    """Write 5 MB."""
    file.write_bytes(b"x" * 5_000_000)


def test_the_listing_is_a_table_with_a_total(capsys: pytest.CaptureFixture[str], cached: Path) -> None:
    """It has a line for each entry, and the sum."""
    assert cli.main(["models"]) == 0
    heading, line, total = capsys.readouterr().out.splitlines()
    assert heading.split() == ["MODEL", "KIND", "SCHEME", "DEVICE", "SIZE", "LAST", "USED", "ID"]
    assert line.split()[:6] == ["/models/mine", "library", "q0f32", "cpu", "5.0", "MB"]
    assert line.split()[-1] == cached.name[:8]
    assert total == "1 entry, 5.0 MB"


def test_json_has_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    """Programs get sizes and times as numbers."""
    assert cli.main(["models", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["size"] > 5_000_000
    assert entry["model"] == "/models/mine"


@pytest.mark.parametrize(("typed", "removed"), [("y\n", True), ("\n", False)])
def test_a_person_is_asked(monkeypatch: pytest.MonkeyPatch, cached: Path, typed: str, removed: bool) -> None:
    """Any answer but yes removes nothing."""
    monkeypatch.setattr("sys.stdin", Person(typed))
    assert cli.main(["models", "remove", "/models/mine"]) == (0 if removed else 1)
    assert cached.exists() is not removed


def test_a_program_says_yes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], cached: Path
) -> None:
    """Without a terminal nothing is removed silently; with --yes the freed size is reported."""
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert cli.main(["models", "remove", "/models/mine"]) == 2
    assert "give --yes" in capsys.readouterr().err
    assert cached.exists()
    assert cli.main(["models", "remove", "/models/mine", "--yes"]) == 0
    assert capsys.readouterr().out == "Removed 1 entry; this freed 5.0 MB.\n"
    assert not cached.exists()

"""What is cached of models, listed and removed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlc_serve.demo import demo_model_path
from mlc_serve.errors import ConfigError, StartupError
from mlc_serve.interface import models
from mlc_serve.interface.models import cached_models, named, remove
from mlc_serve.loading.artifacts import HOME_VARIABLE, artifact

MAPS_A_FILE = """
import mmap, sys
with open(sys.argv[1], "rb") as file:
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
print("mapped", flush=True)
sys.stdin.read()
"""
SNAPSHOT = "/hub/models--org--name/snapshots/0123"


def cached(kind: str, key: dict[str, str], model: str = "") -> Path:
    """The directory of an entry of the cache."""
    return artifact(kind, key, write, lambda directory: directory, model=model, report=print)


def write(directory: Path) -> None:
    """Make an artifact of 100 bytes and a key."""
    (directory / "model.so").write_bytes(b"x" * 100)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """A library and weights of the demo model, and a library of one from the hub; no downloads."""
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    monkeypatch.setattr(models, "downloads", lambda: iter(()))
    key = {"quantization": "q0f32", "device": "cpu"}
    demo = str(demo_model_path())
    return {
        "library": cached("libraries", key, demo),
        "weights": cached("weights", {"quantization": "q0f32"}, demo),
        "hub": cached("libraries", {**key, "device": "cuda"}, SNAPSHOT),
    }


def test_the_listing_names_models_as_users_do(cache: dict[str, Path]) -> None:
    """It has kind, scheme, device and size, sorted by model."""
    listed = [(entry.model, entry.kind, entry.quantization, entry.device) for entry in cached_models()]
    assert listed == [
        ("demo", "library", "q0f32", "cpu"),
        ("demo", "weights", "q0f32", ""),
        ("org/name", "library", "q0f32", "cuda"),
    ]
    assert all(entry.size > 100 for entry in cached_models())


def test_the_last_use_is_the_last_time_it_was_found(cache: dict[str, Path]) -> None:
    """A start that takes a library from the cache counts as a use."""
    os.utime(cache["weights"], (1000, 1000))
    (weights,) = (entry for entry in cached_models() if entry.kind == "weights")
    assert weights.last_used == 1000
    cached("weights", {"quantization": "q0f32"})
    (weights,) = (entry for entry in cached_models() if entry.kind == "weights")
    assert weights.last_used > 1000


def test_a_model_is_removed_whole_and_a_thing_by_its_id(cache: dict[str, Path]) -> None:
    """The freed size is the listed one, and other entries stay."""
    (hub,) = named([cache["hub"].name[:8]], cached_models())
    assert hub.model == "org/name"
    demo = named(["demo"], cached_models())
    assert remove(demo) == sum(entry.size for entry in demo)
    assert [path.exists() for path in cache.values()] == [False, False, True]


def test_an_unknown_name_gets_the_nearest() -> None:
    """The error comes before anything is removed."""
    with pytest.raises(ConfigError, match=r"nothing is cached under 'dmo' \(did you mean demo\?\)"):
        named(["org/name", "dmo"], cached_models())


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it can't be known")
def test_what_a_process_uses_is_not_removed(cache: dict[str, Path]) -> None:
    """If a process has a library in memory, the error names it, and nothing of the model is removed."""
    program = [sys.executable, "-c", MAPS_A_FILE, str(cache["library"] / "model.so")]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(StartupError, match=rf"library of demo .* is used by process {process.pid}"):
            remove(named(["demo"], cached_models()))
        process.communicate("")
    assert all(path.exists() for path in cache.values())

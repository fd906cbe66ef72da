"""Which library is compiled for a configuration: what the key of the cache and the compiler are told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mlc_serve.checkpoint.directory import open_checkpoint
from mlc_serve.config import EngineConfig
from mlc_serve.errors import CheckpointError
from mlc_serve.loading import library as library_step
from mlc_serve.loading.library import find_library
from mlc_serve.runtime.device import DeviceName
from tests.checkpoints import Shape, write_checkpoint

SMALL = Shape(hidden_size=16, num_layers=1, num_heads=2, num_kv_heads=1, intermediate_size=24, vocab_size=300)
LONGROPE = {"type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}


class Compiled(NamedTuple):
    """What a start asked for."""

    key: Mapping[str, Any]
    options: Mapping[str, str]
    reports: list[str]


Find = Callable[..., Compiled]


@pytest.fixture
def find(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Find:
    """A function that finds the library of a small model with a scaling of positions, trained for 32 tokens,
    to serve contexts of a length. Nothing is compiled.
    """

    def found(
        scaling: dict[str, Any] | None, length: int | None, taps: tuple[int, ...] = (), **settings: Any
    ) -> Compiled:
        directory = write_checkpoint(tmp_path / "model", replace(SMALL, rope_scaling=scaling))
        keys: list[Mapping[str, Any]] = []
        options: list[Mapping[str, str]] = []
        reports: list[str] = []

        def make_only(
            _kind: str, key: Mapping[str, Any], make: Callable[[Path], None], *_: object, **__: object
        ) -> None:
            keys.append(key)
            make(tmp_path)

        monkeypatch.setattr(library_step, "artifact", make_only)
        monkeypatch.setattr(library_step, "run_compiler", lambda _model, told, _output: options.append(told))
        config = EngineConfig(max_single_sequence_length=length, **settings)
        find_library(config, open_checkpoint(directory), DeviceName("cpu"), reports.append, taps)
        return Compiled(keys[0], options[0], reports[:-1])  # the last one says that it is being compiled

    return found


def test_a_longer_context_is_another_library_only_for_longrope(find: Find) -> None:
    """Its length is told to the compiler, and all lengths share the library."""
    longrope = LONGROPE | {"original_max_position_embeddings": 32}
    default, short, long, longer = (find(longrope, length) for length in (None, 32, 33, 64))
    assert default.key == short.key != long.key == longer.key
    assert "context-window-size" not in short.options
    assert long.options["context-window-size"] == "33"
    linear = {"type": "linear", "factor": 4.0}
    assert find(linear, 64).key == find(linear, None).key


def test_a_context_that_could_be_longer_is_told(find: Find) -> None:
    """Once, with its length and the setting, unless the setting was used."""
    longrope = LONGROPE | {"original_max_position_embeddings": 32}
    (line,) = find(longrope, None).reports
    assert f"up to {SMALL.context_window_size} tokens, set context_window_size" in line
    assert find(longrope, 32).reports == []
    assert find({"type": "linear", "factor": 4.0}, None).reports == []


def test_a_window_of_whole_sequences_is_another_library(find: Find) -> None:
    """Its sizes are told to the compiler; a window of -1 is none."""
    whole, none = find(None, None), find(None, None, sliding_window_size=-1)
    windowed = find(None, None, sliding_window_size=32, attention_sink_size=4)
    assert whole.key == none.key != windowed.key
    assert "sliding-window-size" not in none.options
    assert windowed.options["sliding-window-size"] == "32"
    assert windowed.options["attention-sink-size"] == "4"


def test_taps_make_another_library(find: Find) -> None:
    """They are told to the compiler; without any, nothing is told, and the key does not mention them."""
    plain, tapped = find(None, None), find(None, None, (1, 0))
    assert "taps" not in {**plain.options, **plain.key}
    assert tapped.options["taps"] == "1,0"
    assert tapped.key == {**plain.key, "taps": [1, 0]}


def test_a_scaling_that_can_not_be_names_its_file(find: Find) -> None:
    """Before anything else is done."""
    with pytest.raises(CheckpointError, match=r"config\.json: rope_scaling: the type 'axial'"):
        find({"type": "axial"}, None)

"""Which layers of a Qwen model have a window."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import Qwen2Config, Qwen3Config

from mlc_serve.errors import CheckpointError
from mlc_serve.models.layer_types import qwen_windows
from mlc_serve.models.table import read_architecture
from tests.models.test_decoder import CONFIG

WINDOWED = {"use_sliding_window": True, "sliding_window": 16}


@pytest.mark.parametrize("theirs", [Qwen2Config, Qwen3Config])
@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"use_sliding_window": True},
        WINDOWED | {"max_window_layers": 0},
        WINDOWED | {"max_window_layers": 3},
        WINDOWED | {"max_window_layers": 50},
        WINDOWED | {"layer_types": ["sliding_attention", "full_attention"] * 16},
        {"use_sliding_window": False, "sliding_window": 16, "max_window_layers": 0},
        WINDOWED | {"sliding_window": None, "max_window_layers": 0},
    ],
    ids=str,
)
def test_the_kinds_are_those_of_transformers(theirs: Any, keys: dict[str, Any]) -> None:
    """By the number of layers without a window, or by a list; both Qwen2 and Qwen3."""
    config = theirs(num_hidden_layers=32, **keys)
    windows = qwen_windows(keys | {"num_hidden_layers": 32, "max_position_embeddings": 32768})
    is_windowed = [kind == "sliding_attention" for kind in config.layer_types]
    assert windows == [config.sliding_window if windowed else None for windowed in is_windowed]


def test_a_window_that_holds_the_context_is_none() -> None:
    """No position lies outside of it."""
    keys = CONFIG | WINDOWED | {"max_window_layers": 0}
    assert set(qwen_windows(keys | {"max_position_embeddings": 16})) == {None}
    assert set(qwen_windows(keys | {"max_position_embeddings": 17})) == {16}


@pytest.mark.parametrize(
    ("listed", "fault"),
    [
        ("full_attention", "layer_types must list 4 layers, not 'full_attention'"),
        (["full_attention"] * 3, "layer_types must list 4 layers"),
        (["full_attention"] * 3 + ["chunked_attention"], "layer_types: 'chunked_attention' is not supported"),
        ([["full_attention"]] * 4, "layer_types: .* is not supported"),
    ],
)
def test_a_list_that_can_not_be_is_named(listed: Any, fault: str) -> None:
    """Another kind of value, too few layers, and an unknown kind of layer."""
    with pytest.raises(CheckpointError, match=fault):
        qwen_windows(CONFIG | WINDOWED | {"layer_types": listed, "num_hidden_layers": 4})


@pytest.mark.parametrize("model_type", ["qwen2", "qwen3"])
def test_layers_get_their_windows(model_type: str) -> None:
    """The first layers have none."""
    layers = read_architecture(model_type, CONFIG | WINDOWED | {"max_window_layers": 1}).attention.layers
    assert [layer.window for layer in layers] == [None, 16]

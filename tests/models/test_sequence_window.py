"""The window of whole sequences as a part of an architecture."""

from __future__ import annotations

from typing import Any

import pytest

from mlc_serve.config.sliding_window import SlidingWindow
from mlc_serve.errors import CheckpointError
from mlc_serve.models.mlc_config import config_of_mlc
from mlc_serve.models.sequence_window import LONGEST_SEQUENCE, for_window, window_of
from mlc_serve.models.table import read_architecture

CONFIG: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
GEMMA2 = {"sliding_window": 30, "head_dim": 16, "query_pre_attn_scalar": 16}
GPT2 = {"n_embd": 64, "n_head": 4, "n_layer": 2, "n_positions": 512, "vocab_size": 320}
SCALED = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4, "llama_4_scaling_beta": 0.3}


def layers(
    model_type: str, keys: dict[str, Any], window: SlidingWindow | None
) -> list[tuple[int | None, int]]:
    """The window and the anchors of each layer."""
    architecture = read_architecture(model_type, for_window(CONFIG | keys, window))
    return [(layer.window, layer.anchors) for layer in architecture.attention.layers]


def test_every_layer_gets_the_window_unless_its_own_is_as_narrow() -> None:
    """Of the window's tokens, the first ones are set apart."""
    assert layers("llama", {}, SlidingWindow(64, 4)) == [(60, 4)] * 2
    assert layers("gemma2", GEMMA2, SlidingWindow(64, 4)) == [(30, 0), (60, 4)]
    assert layers("gemma2", GEMMA2, SlidingWindow(20)) == [(20, 0)] * 2
    assert layers("llama", {}, None) == [(None, 0)] * 2


def test_sequences_get_longer_than_the_context_unless_mlc_states_one() -> None:
    """Without a window they don't."""
    lengths = [
        read_architecture("llama", for_window(CONFIG | keys, window)).context_window_size
        for keys, window in (
            ({}, None),
            ({}, SlidingWindow(64)),
            ({"context_window_size": 300}, SlidingWindow(64)),
        )
    ]
    assert lengths == [512, LONGEST_SEQUENCE, 300]


@pytest.mark.parametrize(
    ("model_type", "keys", "reason"),
    [
        ("gpt2", GPT2, "learned positions"),
        ("ministral3", {"rope_parameters": SCALED}, "scales queries by their position"),
        ("lfm2", {"layer_types": ["conv", "full_attention"]}, "recurrent state"),
    ],
)
def test_models_that_can_not_follow_are_refused(model_type: str, keys: dict[str, Any], reason: str) -> None:
    """By the setting's name, with the reason."""
    config = CONFIG | keys
    read_architecture(model_type, config)
    with pytest.raises(CheckpointError, match=f"^sliding_window_size is not supported .*{reason}"):
        read_architecture(model_type, for_window(config, SlidingWindow(64)))


@pytest.mark.parametrize(
    ("keys", "window"),
    [
        (
            {"sliding_window_size": 64, "attention_sink_size": 4, "context_window_size": -1},
            SlidingWindow(64, 4),
        ),
        ({"sliding_window_size": 64, "context_window_size": -1}, SlidingWindow(64)),
        (
            {"sliding_window_size": 64, "attention_sink_size": 4, "context_window_size": 512},
            SlidingWindow(64, 4),
        ),
        ({"sliding_window_size": 64, "context_window_size": 512}, None),
        ({"sliding_window_size": -1, "attention_sink_size": 4, "context_window_size": 512}, None),
    ],
    ids=str,
)
def test_what_mlc_states_for_whole_sequences_is_told_from_the_windows_of_layers(
    keys: dict[str, Any], window: SlidingWindow | None
) -> None:
    """The former has sinks or no context window. The latter, as Gemma 3 has them, remain those of layers."""
    config = config_of_mlc(CONFIG | keys)
    assert window_of(config) == window
    assert config["sliding_window"] == (None if keys["sliding_window_size"] == -1 else 64)


def test_more_sinks_than_a_window_has_are_refused() -> None:
    """With the names that MLC gives them."""
    with pytest.raises(
        CheckpointError, match="attention_sink_size 64 is not less than sliding_window_size 64"
    ):
        config_of_mlc({"sliding_window_size": 64, "attention_sink_size": 64})


def test_a_mistral_that_states_no_window_has_that_of_transformers() -> None:
    """It is 4096; null means none."""
    long = {"max_position_embeddings": 32768}
    assert layers("mistral", long, None) == [(4096, 0)] * 2
    assert layers("mistral", long | {"sliding_window": None}, None) == [(None, 0)] * 2

"""How models with recurrent layers are read from their configurations, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from mlc_serve.errors import CheckpointError
from mlc_serve.models.table import read_architecture

RWKV6 = {"vocab_size": 300, "hidden_size": 64, "num_hidden_layers": 2, "head_size": 16}
HYBRID = {
    "vocab_size": 300,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
LFM2 = {**HYBRID, "layer_types": ["conv", "full_attention", "conv", "conv"]}


def weights(model_type: str, config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The weights of a model by name."""
    return dict(read_architecture(model_type, config).weights())


def test_states_have_the_sizes_of_heads_and_layers() -> None:
    """A sequence of an RWKV6 has two rows and a matrix for each head, in each layer."""
    read = read_architecture("rwkv6", RWKV6)
    assert read.recurrence is not None
    assert read.recurrence.bytes_per_sequence == 2 * 4 * (64 + 4 * 16 * 16 + 64)
    assert read.attention.num_layers == 0


def test_a_recurrent_model_has_a_context_window_only_if_one_is_stated() -> None:
    """MLC writes -1 for none. No window means 32768 tokens."""
    windows = [
        read_architecture("rwkv6", RWKV6 | keys).context_window_size
        for keys in ({}, {"context_window_size": -1}, {"context_length": 4096}, {"context_window_size": 99})
    ]
    assert windows == [32768, 32768, 4096, 99]


def test_only_mlcs_weights_are_rescaled() -> None:
    """MLC's directories hold weights that need a residual that is halved; Hugging Face's do not."""
    name = "rwkv.blocks.1.ln1.weight"
    plain, rescaled = (
        read_architecture("rwkv6", RWKV6 | {"rescale_every": 6} | keys)
        for keys in ({}, {"model_version": "6_0"})
    )
    assert (plain.halve_every, rescaled.halve_every) == (0, 6)  # type: ignore[attr-defined]
    assert [part.name for part in plain.names.parts("model.blocks.1.ln1.weight", "huggingface", ())] == [name]
    assert [part.name for part in plain.names.in_mlc("model.blocks.1.ln1.weight")] == [
        "model.blocks.1.ln1.weight"
    ]


def test_layers_of_a_hybrid_are_counted_by_kind() -> None:
    """Attention and recurrent states are numbered each for themselves."""
    lfm2 = read_architecture("lfm2", LFM2)
    assert lfm2.places == (0, 0, 1, 2)  # type: ignore[attr-defined]
    assert (lfm2.attention.num_layers, lfm2.recurrence and lfm2.recurrence.num_layers) == (1, 3)
    qwen = read_architecture("qwen3_5_text", HYBRID)
    assert qwen.places == (0, 1, 2, 0)  # type: ignore[attr-defined]


def test_the_inner_width_of_lfm2_is_adjusted_as_transformers_does() -> None:
    """Two thirds of what is stated, in whole multiples, unless that is switched off."""
    name = "model.layers.0.mlp.down_proj.weight"
    assert weights("lfm2", LFM2 | {"block_ff_dim": 1000, "block_multiple_of": 64})[name] == (64, 704)
    keys = {"block_ff_dim": 1000, "block_auto_adjust_ff_dim": False}
    assert weights("lfm2", LFM2 | keys)[name] == (64, 1000)


@pytest.mark.parametrize(
    ("model_type", "config", "message"),
    [
        ("rwkv6", RWKV6 | {"model_version": "5_2"}, "model_version '5_2' is not supported"),
        ("rwkv6", RWKV6 | {"attention_hidden_size": 32}, "attention_hidden_size 32 must be hidden_size"),
        ("rwkv6", RWKV6 | {"head_size": 24}, "head_size: heads of 24 values"),
        ("rwkv6", RWKV6 | {"num_heads": 3}, "num_heads must be 4"),
        ("rwkv6", RWKV6 | {"tie_word_embeddings": True}, "tie_word_embeddings"),
        ("lfm2", HYBRID, "layer_types must name 4 layers"),
        ("lfm2", LFM2 | {"layer_types": ["conv"] * 4}, "layer_types must name 4 layers"),
        ("lfm2", LFM2 | {"conv_L_cache": 1}, "conv_L_cache must be at least 2"),
        ("lfm2", LFM2 | {"conv_L_cache": 17}, "conv_L_cache must be a positive integer up to 16"),
        ("qwen3_5_text", HYBRID | {"layer_types": ["sliding_attention"] * 4}, "layer_types must name"),
        ("qwen3_5_text", HYBRID | {"linear_num_key_heads": 5}, "linear_num_value_heads: 32 heads"),
    ],
)
def test_what_is_not_supported_is_refused(model_type: str, config: dict[str, Any], message: str) -> None:
    """By the name of the key."""
    with pytest.raises(CheckpointError, match=message):
        read_architecture(model_type, config)

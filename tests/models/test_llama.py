"""Reading an architecture's dimensions from a config file."""

from __future__ import annotations

from typing import Any

import pytest

from mlc_serve.errors import CheckpointError
from mlc_serve.models.layers import Rope
from mlc_serve.models.llama import LlamaConfig, read_rope

CONFIG: dict[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def test_a_minimal_config_has_the_defaults_of_transformers() -> None:
    """Every head has its own keys, heads share the width, and nothing is tied or biased."""
    config = LlamaConfig.from_dict(CONFIG)
    shape = config.attention
    assert (shape.num_kv_heads, shape.head_dim, shape.rope) == (4, 16, Rope(10000.0))
    assert shape.qkv_width == 12 * 16
    assert (config.rms_norm_eps, config.context_window_size) == (1e-6, 2048)
    assert {config.tie_word_embeddings, config.qkv_bias, config.o_bias} == {False}


def test_what_the_config_says_is_taken() -> None:
    """Grouped heads of a width of their own, MLC's name of the context window, and null for the default."""
    config = LlamaConfig.from_dict(
        CONFIG
        | {
            "num_key_value_heads": 2,
            "head_dim": 48,
            "context_window_size": 99,
            "max_position_embeddings": None,
        }
    )
    assert (config.attention.num_kv_heads, config.attention.head_dim) == (2, 48)
    assert config.context_window_size == 99


@pytest.mark.parametrize("key", sorted(CONFIG))
def test_a_missing_key_is_named(key: str) -> None:
    """The error says which and what it must be."""
    with pytest.raises(CheckpointError, match=f"{key} must be a positive integer, not None"):
        LlamaConfig.from_dict({name: value for name, value in CONFIG.items() if name != key})


@pytest.mark.parametrize(
    "wrong",
    [
        {"hidden_size": "64"},
        {"num_key_value_heads": 0},
        {"num_key_value_heads": "two"},
        {"head_dim": -16},
        {"rms_norm_eps": "small"},
        {"max_position_embeddings": 1.5},
        {"rope_theta": []},
        {"hidden_act": "gelu"},
        {"mlp_bias": True},
        {"use_sliding_window": True},
        {"rope_scaling": 3},
        {"rope_scaling": {"rope_type": "yarn"}},
    ],
    ids=str,
)
def test_what_can_not_be_is_named(wrong: dict[str, Any]) -> None:
    """A value of a wrong kind, and a feature that this architecture lacks, is refused by its key."""
    (key,) = wrong
    wanted = "RoPE scaling 'yarn'" if wrong[key] == {"rope_type": "yarn"} else key
    with pytest.raises(CheckpointError, match=wanted):
        LlamaConfig.from_dict(CONFIG | wrong)


@pytest.mark.parametrize("wrong", [{"num_key_value_heads": 3}, {"head_dim": 15}], ids=str)
def test_heads_that_do_not_fit_are_refused(wrong: dict[str, int]) -> None:
    """Groups must be whole, and rotary positions turn pairs of dimensions."""
    with pytest.raises(CheckpointError, match="attention heads of"):
        LlamaConfig.from_dict(CONFIG | wrong)


@pytest.mark.parametrize(
    "config",
    [
        {"rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", **LLAMA3}},
        {"rope_theta": 500000.0, "rope_scaling": {"type": "llama3", **LLAMA3}},
        {"rope_parameters": {"rope_type": "llama3", "rope_theta": 500000.0, **LLAMA3}},
        {"position_embedding_base": 500000, "rope_scaling": {"rope_type": "llama3", **LLAMA3}},
    ],
    ids=["transformers 4", "older", "transformers 5", "mlc"],
)
def test_all_spellings_of_rope_are_the_same(config: dict[str, Any]) -> None:
    """The base and the scaling, wherever they are written."""
    assert read_rope(config) == Rope(500000.0, {**LLAMA3, "rope_type": "llama3"})


def test_linear_scaling_slows_positions_down() -> None:
    """A factor of 4 makes four positions of one; "default" is no scaling."""
    assert read_rope({"rope_scaling": {"type": "linear", "factor": 4}}) == Rope(10000.0, position_scale=0.25)
    assert read_rope({"rope_parameters": {"rope_type": "default", "rope_theta": 7.0}}) == Rope(7.0)


@pytest.mark.parametrize("key", sorted(LLAMA3))
def test_incomplete_scaling_is_named(key: str) -> None:
    """Each parameter of a scaling is needed."""
    scaling = {name: value for name, value in LLAMA3.items() if name != key}
    with pytest.raises(CheckpointError, match=f"{key} must be a positive number, not None"):
        read_rope({"rope_scaling": {"rope_type": "llama3", **scaling}})

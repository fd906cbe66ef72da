"""Reading a decoder's dimensions from a configuration, and the weights that follow from them."""

from __future__ import annotations

from typing import Any

import pytest

from mlc_serve.compiler.layers.gpu import GPULayers
from mlc_serve.compiler.target import target_for
from mlc_serve.errors import CheckpointError
from mlc_serve.models.families.llama import read_llama
from mlc_serve.models.parts.attention import Attention, AttentionLayer
from mlc_serve.models.rope import Rope
from mlc_serve.models.table import read_architecture
from mlc_serve.quantization.scheme import find_scheme

CONFIG: dict[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


def test_a_minimal_config_has_the_defaults_of_transformers() -> None:
    """Every head has its own keys, heads share the width, and nothing is tied or biased."""
    config = read_llama(CONFIG)
    shape = config.attention
    assert (shape.num_kv_heads, shape.head_dim) == (4, 16)
    assert shape.layers == (AttentionLayer(Rope(10000.0)),) * 2
    assert shape.qkv_width == 12 * 16
    assert (config.norm.epsilon, config.context_window_size) == (1e-6, 2048)
    block = config.blocks[0]
    assert isinstance(block.attention, Attention)
    biases = {block.attention.qkv_bias, block.attention.o_bias, block.mlp.bias}
    assert {config.head.is_tied} | biases == {False}


def test_what_the_config_says_is_taken() -> None:
    """Grouped heads of a width of their own, MLC's name of the context window, and null for the default."""
    config = read_llama(
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
    with pytest.raises(CheckpointError, match=f"{key} must be a positive integer.*, not None"):
        read_llama({name: value for name, value in CONFIG.items() if name != key})


WRONG: list[dict[str, Any]] = [
    {"hidden_size": "64"},
    {"hidden_size": 2**31},
    {"hidden_size": 64.0},
    {"vocab_size": True},
    {"vocab_size": [512]},
    {"num_hidden_layers": -1},
    {"num_hidden_layers": 10**400},
    {"num_hidden_layers": 2**31 - 1},
    {"num_attention_heads": {}},
    {"num_key_value_heads": 0},
    {"num_key_value_heads": "two"},
    {"head_dim": -16},
    {"intermediate_size": None},
    {"rms_norm_eps": "small"},
    {"rms_norm_eps": float("nan")},
    {"rms_norm_eps": float("inf")},
    {"rms_norm_eps": -1e-5},
    {"rms_norm_eps": 0},
    {"rms_norm_eps": 1e300},
    {"rms_norm_eps": 10**400},
    {"rms_norm_eps": True},
    {"max_position_embeddings": 1.5},
    {"max_position_embeddings": 10**12},
    {"rope_theta": []},
    {"rope_theta": float("nan")},
    {"rope_theta": -10000.0},
    {"rope_theta": 1},
    {"rope_theta": float("inf")},
    {"hidden_act": "tanh"},
    {"hidden_act": ["silu"]},
    {"tie_word_embeddings": "false"},
    {"attention_bias": 1},
    {"mlp_bias": "yes"},
    {"rope_scaling": 3},
    {"rope_scaling": ["yarn"]},
    {"rope_scaling": {"rope_type": "axial"}},
    {"rope_scaling": {"rope_type": ["yarn"]}},
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: str(wrong)[:40])
def test_what_can_not_be_is_named(wrong: dict[str, Any]) -> None:
    """A value of a wrong kind, and a feature that this architecture lacks, by its key and in one line."""
    (key,) = wrong
    with pytest.raises(CheckpointError, match=f"^{key}") as caught:
        read_architecture("llama", CONFIG | wrong)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "harmless", [{"hidden_act": "swish"}, {"rms_norm_eps": 1}, {"use_sliding_window": True}], ids=str
)
def test_what_transformers_takes_for_the_same_is_taken(harmless: dict[str, Any]) -> None:
    """Other names, a whole number, and keys that a Llama does not read."""
    read_architecture("llama", CONFIG | harmless)


@pytest.mark.parametrize(
    ("model_type", "keys"),
    [
        ("llama", {}),
        ("llama", {"tie_word_embeddings": True, "num_key_value_heads": 2, "head_dim": 24}),
        ("llama", {"attention_bias": True, "mlp_bias": True}),
        ("qwen2", {}),
        ("qwen3", {}),
        ("qwen3", {"attention_bias": True, "tie_word_embeddings": True, "num_key_value_heads": 2}),
    ],
)
def test_weights_are_those_of_the_module(model_type: str, keys: dict[str, Any]) -> None:
    """The same names, shapes and order as what is compiled takes."""
    config = read_architecture(model_type, CONFIG | keys)
    layers = GPULayers(find_scheme("q0f32"), target_for("cpu"))  # row-major; nothing is compiled for a target
    parameters = config.build(layers).named_parameters()
    assert list(config.weights()) == [
        (name, tuple(map(int, parameter.shape))) for name, parameter in parameters
    ]


@pytest.mark.parametrize("wrong", [{"num_key_value_heads": 3}, {"head_dim": 15}], ids=str)
def test_heads_that_do_not_fit_are_refused(wrong: dict[str, int]) -> None:
    """Groups must be whole, and rotary positions turn pairs of dimensions."""
    with pytest.raises(CheckpointError, match="attention heads of"):
        read_llama(CONFIG | wrong)

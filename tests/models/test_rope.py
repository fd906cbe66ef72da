"""Rotary settings from configurations: spellings, and numbers against transformers'."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from transformers import LlamaConfig as TheirConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from mlc_serve.errors import CheckpointError
from mlc_serve.models.rope import Rope
from mlc_serve.models.rope_config import read_rope
from mlc_serve.models.rope_scaling import LinearScaling, Llama3Scaling, YarnScaling
from mlc_serve.models.table import read_architecture
from tests.models.test_decoder import CONFIG

LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
QWEN_ADVISES = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}


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
    assert read_rope(config) == Rope(500000.0, Llama3Scaling(8.0, 1.0, 4.0, 8192))


def test_linear_scaling_slows_positions_down() -> None:
    """A factor of 4 makes four positions of one; "default" is no scaling."""
    assert read_rope({"rope_scaling": {"type": "linear", "factor": 4}}) == Rope(10000.0, LinearScaling(4.0))
    assert read_rope({"rope_parameters": {"rope_type": "default", "rope_theta": 7.0}}) == Rope(7.0)


def test_dynamic_scaling_is_none_within_the_window() -> None:
    """Frequencies change only beyond max_position_embeddings, up to which the model is served."""
    config = CONFIG | {"max_position_embeddings": 4096, "rope_scaling": {"type": "dynamic", "factor": 4.0}}
    read = read_architecture("llama", config)
    assert (read.attention.layers[0].rope, read.context_window_size) == (Rope(10000.0), 4096)


@pytest.mark.parametrize(
    ("stated", "scaling", "window"),
    [
        (32768, QWEN_ADVISES, 131072),
        (131072, QWEN_ADVISES, 131072),
        (40960, QWEN_ADVISES | {"factor": 1.0}, 40960),
        (32768, {"type": "yarn", "factor": 4.0}, 32768),
        (8192, {"type": "linear", "factor": 4.0}, 8192),
        (10**6, QWEN_ADVISES | {"factor": 10**6}, 2**31 - 1),
    ],
)
def test_yarn_reaches_as_far_as_it_says(stated: int, scaling: dict[str, Any], window: int) -> None:
    """Who adds it by hand, as Qwen2.5 advises, leaves max_position_embeddings as it was."""
    read = read_architecture("llama", CONFIG | {"max_position_embeddings": stated, "rope_scaling": scaling})
    assert read.context_window_size == window


SCALINGS: dict[str, dict[str, Any]] = {
    "linear": {"rope_type": "linear", "factor": 2.5},
    "llama3": {"rope_type": "llama3", **LLAMA3},
    "llama3 by the window": {"rope_type": "llama3", **LLAMA3, "original_max_position_embeddings": None},
    "dynamic": {"rope_type": "dynamic", "factor": 4.0},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024},
    "yarn by the window": {"rope_type": "yarn", "factor": 40},
    "yarn without factor": {"rope_type": "yarn", "factor": None, "original_max_position_embeddings": 512},
    "yarn untruncated": {
        "rope_type": "yarn",
        "factor": 32.0,
        "original_max_position_embeddings": 4096,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "truncate": False,
    },
    "yarn with a narrow ramp": {
        "rope_type": "yarn",
        "factor": 8.0,
        "original_max_position_embeddings": 64,
        "beta_fast": 2,
        "beta_slow": 2,
        "truncate": False,
    },
    "yarn with a given attention": {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 256,
        "attention_factor": 0.75,
        "mscale": 2.0,
    },
    "yarn with weights": {
        "rope_type": "yarn",
        "factor": 40,
        "original_max_position_embeddings": 4096,
        "mscale": 1.0,
        "mscale_all_dim": 0.707,
    },
    "yarn with half of the weights": {
        "rope_type": "yarn",
        "factor": 40,
        "original_max_position_embeddings": 4096,
        "mscale": 0.5,
        "mscale_all_dim": 0,
    },
    "yarn that shrinks": {"rope_type": "yarn", "factor": 0.5, "original_max_position_embeddings": 4096},
}


@pytest.mark.parametrize("name", SCALINGS)
@pytest.mark.parametrize(("head_dim", "theta"), [(64, 10000.0), (128, 1000000.0), (18, 500000.0)])
def test_frequencies_are_transformers(name: str, head_dim: int, theta: float) -> None:
    """And so is what attention is multiplied with."""
    scaling = {key: value for key, value in SCALINGS[name].items() if key == "factor" or value is not None}
    sizes = {"hidden_size": head_dim, "num_attention_heads": 1, "max_position_embeddings": 4096}
    theirs = TheirConfig(**sizes, rope_parameters={**scaling, "rope_theta": theta})
    expected, factor = ROPE_INIT_FUNCTIONS[scaling["rope_type"]](theirs, device="cpu")

    ours = read_rope({**sizes, "rope_theta": theta, "rope_scaling": scaling})

    np.testing.assert_allclose(ours.frequencies(head_dim), expected.numpy(), rtol=2e-6)
    assert ours.attention_factor == pytest.approx(factor, rel=1e-12)


def test_the_configuration_s_own_window_goes_before_the_scaling_s() -> None:
    """As transformers has it."""
    rope = read_rope({"original_max_position_embeddings": 256, "rope_scaling": QWEN_ADVISES})
    assert isinstance(rope.scaling, YarnScaling)
    assert rope.scaling.original_max_position_embeddings == 256


@pytest.mark.parametrize("key", ["factor", "low_freq_factor", "high_freq_factor"])
def test_incomplete_scaling_is_named(key: str) -> None:
    """Parameters that have no default are needed."""
    scaling = {name: value for name, value in LLAMA3.items() if name != key}
    with pytest.raises(CheckpointError, match=f"{key} must be a number above . and up to 1e.06, not None"):
        read_rope({"rope_scaling": {"rope_type": "llama3", **scaling}})


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        ("yarn", "factor", 0),
        ("yarn", "factor", float("nan")),
        ("yarn", "factor", "4"),
        ("yarn", "original_max_position_embeddings", 32768.5),
        ("yarn", "original_max_position_embeddings", -1),
        ("yarn", "attention_factor", float("inf")),
        ("yarn", "attention_factor", -1),
        ("yarn", "beta_fast", 10**400),
        ("yarn", "beta_slow", [1]),
        ("yarn", "truncate", "no"),
        ("yarn", "partial_rotary_factor", 0.5),
        ("linear", "factor", -2.0),
        ("llama3", "high_freq_factor", 1.0),
        ("llama3", "low_freq_factor", None),
    ],
)
def test_a_malformed_scaling_is_named(kind: str, key: str, value: Any) -> None:
    """By the key of what is wrong with it."""
    scaling = {"rope_type": kind, **LLAMA3, "mscale": 1.0, key: value}
    with pytest.raises(CheckpointError, match=f"^{key} "):
        read_rope({"rope_scaling": scaling, "max_position_embeddings": 4096})

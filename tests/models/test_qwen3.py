"""What Qwen3 has that Llama has not."""

from __future__ import annotations

import pytest

from mlc_serve.models.table import read_architecture
from tests.models.test_decoder import CONFIG

LAYER = "model.layers.1.self_attn"


@pytest.mark.parametrize("keys", [{}, {"head_dim": None}])
def test_the_width_of_a_head_has_a_default_of_its_own(keys: dict[str, None]) -> None:
    """It is not the share of a head in the hidden size."""
    assert read_architecture("qwen3", CONFIG | keys).attention.head_dim == 128
    assert read_architecture("qwen3", CONFIG | {"head_dim": 32}).attention.head_dim == 32


def test_queries_and_keys_have_norms() -> None:
    """One weight for all heads of a layer; there is no bias unless the configuration asks for it."""
    weights = dict(read_architecture("qwen3", CONFIG | {"head_dim": 32}).weights())
    assert weights[f"{LAYER}.q_norm.weight"] == weights[f"{LAYER}.k_norm.weight"] == (32,)
    assert weights[f"{LAYER}.o_proj.weight"] == (64, 4 * 32)
    assert not [name for name in weights if name.endswith("bias")]
    biased = dict(read_architecture("qwen3", CONFIG | {"attention_bias": True}).weights())
    assert {name for name in biased if name.endswith("bias") and name.startswith(LAYER)} == {
        f"{LAYER}.qkv_proj.bias",
        f"{LAYER}.o_proj.bias",
    }


def test_mlc_has_its_names() -> None:
    """As MLC's own definition of the model has them."""
    read = read_architecture("qwen3", CONFIG)
    names = [part.name for name, _ in read.weights() for part in read.names.in_mlc(name)]
    assert [name for name in names if name.startswith(LAYER)] == [
        f"{LAYER}.c_attn.weight",
        f"{LAYER}.q_norm.weight",
        f"{LAYER}.k_norm.weight",
        f"{LAYER}.o_proj.weight",
    ]

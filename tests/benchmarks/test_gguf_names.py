"""What GGUF calls the weights of a model, and in which order and type it has them."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from benchmarks.peers.gguf_names import (
    FAMILIES,
    expert_number,
    family_of,
    interleaved,
    rope_factors,
    widened,
    with_old_rotation,
)
from benchmarks.shapes import SHAPES


@pytest.mark.parametrize(
    ("family", "name", "expected"),
    [
        ("llama", "model.embed_tokens.weight", "token_embd.weight"),
        ("llama", "lm_head.weight", "output.weight"),
        ("llama", "model.norm.weight", "output_norm.weight"),
        ("llama", "model.layers.0.self_attn.o_proj.weight", "blk.0.attn_output.weight"),
        ("llama", "model.layers.29.mlp.gate_proj.weight", "blk.29.ffn_gate.weight"),
        ("llama", "model.layers.3.post_attention_layernorm.weight", "blk.3.ffn_norm.weight"),
        ("gemma3_text", "model.layers.3.post_attention_layernorm.weight", "blk.3.post_attention_norm.weight"),
        ("qwen3", "model.layers.3.self_attn.q_norm.weight", "blk.3.attn_q_norm.weight"),
        ("mixtral", "model.layers.3.block_sparse_moe.gate.weight", "blk.3.ffn_gate_inp.weight"),
    ],
)
def test_weights_have_names_of_gguf(family: str, name: str, expected: str) -> None:
    """An untied output has a name of its own; a tied one isn't in the checkpoint."""
    assert family_of(family).name(name) == expected


@pytest.mark.parametrize("shape", [name for name, shape in SHAPES.items() if shape.model_type in FAMILIES])
def test_every_weight_of_a_shape_has_its_own_name(shape: str) -> None:
    """None is lost to another; experts of a layer share names, and are told apart by their numbers."""
    names = [name for name, _ in SHAPES[shape].tensors()]
    family = family_of(SHAPES[shape].model_type)
    assert len({(family.name(name), expert_number(name)) for name in names}) == len(names)


def test_a_family_that_is_not_in_the_table_is_refused() -> None:
    """The error names those that are."""
    with pytest.raises(ValueError, match=r"gpt2 models are not converted; llama, .* are"):
        family_of("gpt2")


@pytest.mark.parametrize("name", ["model.layers.0.self_attn.q_proj.bias", "model.layers.0.mlp.router.weight"])
def test_an_unknown_weight_is_refused(name: str) -> None:
    """A model that would be wrong isn't written."""
    with pytest.raises(ValueError, match=name):
        family_of("llama").name(name)


def test_the_halves_of_a_head_alternate() -> None:
    """Rows i and i + half of a head become neighbours; heads stay apart."""
    rows = np.arange(8).reshape(8, 1)
    assert interleaved(rows, 2).ravel().tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_bit_patterns_of_bfloat16_become_floats() -> None:
    """Exactly: every bfloat16 is a float32."""
    values = np.array([1.0, -2.5, 0.0, 3e38], ml_dtypes.bfloat16)
    assert np.array_equal(widened(values.view(np.uint16)), values.astype(np.float32))


def test_a_model_without_scaling_has_no_factors() -> None:
    """SmolLM2 rotates as Llama 2 did."""
    assert rope_factors(SHAPES["smollm2-135m"].config("bfloat16")) is None


def test_long_waves_are_stretched_and_short_ones_not() -> None:
    """The factors grow from 1 to the whole factor."""
    factors = rope_factors(SHAPES["llama3.2-1b"].config("bfloat16"))
    assert factors is not None
    assert factors.shape == (32,)
    assert (factors[0], factors[-1]) == (1, 32)
    assert np.all(np.diff(factors) >= 0)


def test_another_scaling_is_refused() -> None:
    """Its name is in the error."""
    config = {**SHAPES["smollm2-135m"].config("bfloat16"), "rope_scaling": {"rope_type": "yarn"}}
    with pytest.raises(ValueError, match="yarn"):
        rope_factors(config)


def test_a_rotation_of_newer_checkpoints_is_read() -> None:
    """It has the same meaning under other keys, and an older configuration stays as it is."""
    plain = {"rope_parameters": {"rope_theta": 5.0, "rope_type": "default"}}
    assert with_old_rotation(plain) == {**plain, "rope_theta": 5.0, "rope_scaling": None}
    scaled = {"rope_parameters": {"rope_theta": 5.0, "rope_type": "llama3", "factor": 8.0}}
    assert with_old_rotation(scaled)["rope_scaling"] == scaled["rope_parameters"]
    old = SHAPES["llama3.2-1b"].config("bfloat16")
    assert with_old_rotation(old) == old

"""Weights as integers and scales: those that MLC has made, and those that we make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from mlc_serve.checkpoint.directory import open_checkpoint
from mlc_serve.checkpoint.quantized_weights import read_quantized
from mlc_serve.checkpoint.sources import Sources
from mlc_serve.errors import CheckpointError
from mlc_serve.models.weight_names import decoder_names
from mlc_serve.quantization.groups import quantize
from mlc_serve.quantization.scheme import SCHEMES, GroupFormat, find_scheme
from tests.checkpoints import Dtype, Shape, write_checkpoint
from tests.mlc_checkpoints import write_mlc_checkpoint, write_packed_model

# A depth of 48 is one and a half groups of 4-bit integers.
SMALL = Shape("qwen2", hidden_size=48, num_layers=1, num_kv_heads=2, intermediate_size=24, vocab_size=300)
LAYER = "model.layers.0"
WEIGHTS = {
    "model.embed_tokens": (300, 48),
    "lm_head": (300, 48),
    f"{LAYER}.self_attn.qkv_proj": (96, 48),
    f"{LAYER}.mlp.gate_up_proj": (48, 48),
    f"{LAYER}.mlp.down_proj": (48, 24),
}
PARTS = {
    "qkv_proj": ("q_proj", "k_proj", "v_proj"),
    "gate_up_proj": ("gate_proj", "up_proj"),
}


def form_of(scheme: str) -> GroupFormat:
    """The group format of a scheme with integers."""
    form = find_scheme(scheme).groups
    assert form is not None
    return form


def sources(directory: Path) -> Sources:
    """The tensors of a Qwen2 checkpoint."""
    return Sources(open_checkpoint(directory), decoder_names("c_attn"))


def plain(tensors: dict[str, NDArray[Any]], name: str) -> NDArray[Any]:
    """A weight of a Hugging Face directory; the parts of a fused one are concatenated by rows."""
    own = name.rpartition(".")[2]
    parts = PARTS.get(own, (own,))
    return np.concatenate([tensors[f"{name.replace(own, part)}.weight"] for part in parts])


@pytest.mark.parametrize("scheme", [name for name, scheme in SCHEMES.items() if scheme.groups])
@pytest.mark.parametrize("stored", ["float32", "bfloat16"])
def test_floating_point_weights_are_quantized(tmp_path: Path, scheme: str, stored: Dtype) -> None:
    """Embeddings, head and products are quantized; a fused one as its concatenated parts would be."""
    source, form = write_checkpoint(tmp_path, SMALL, dtype=stored), form_of(scheme)
    tensors = load_file(source / "model.safetensors")
    for name, shape in WEIGHTS.items():
        weight = read_quantized(sources(source), name, shape, form)
        reference = quantize(plain(tensors, name), form)
        np.testing.assert_array_equal(weight.stored, reference.stored)
        np.testing.assert_array_equal(weight.scale, reference.scale)


@pytest.mark.parametrize("scheme", ["q4f16_1", "q4f32_1"])
def test_integers_of_mlc_are_kept(tmp_path: Path, scheme: str) -> None:
    """MLC's integers are found under MLC's names, and are unchanged: they equal those that we make."""
    source, form = write_checkpoint(tmp_path / "source", SMALL), form_of(scheme)
    packed, own = sources(write_packed_model(tmp_path / "packed", source, scheme)), sources(source)
    assert f"{LAYER}.self_attn.c_attn.q_weight" in packed.checkpoint.tensors.names
    for name, shape in WEIGHTS.items():
        weight, reference = (read_quantized(checkpoint, name, shape, form) for checkpoint in (packed, own))
        np.testing.assert_array_equal(weight.stored, reference.stored)
        np.testing.assert_array_equal(weight.scale, reference.scale)


def test_floating_point_weights_of_mlc_are_quantized(tmp_path: Path) -> None:
    """The fused weights of MLC's directory in q0f32, which has no integers, are quantized."""
    source, form = write_checkpoint(tmp_path / "source", SMALL), form_of("q8f32_1")
    packed = sources(write_packed_model(tmp_path / "packed", source, "q0f32"))
    for name, shape in WEIGHTS.items():
        weight = read_quantized(packed, name, shape, form)
        reference = read_quantized(sources(source), name, shape, form)
        np.testing.assert_array_equal(weight.stored, reference.stored)


@pytest.mark.parametrize(
    ("value", "message"),
    [(np.nan, "values that are not finite"), (1e30, "values that a scale in float16 can't hold")],
)
def test_a_weight_that_can_not_be_quantized_is_named(tmp_path: Path, value: float, message: str) -> None:
    """The error has the tensor's name in the checkpoint."""
    source = write_checkpoint(tmp_path, SMALL)
    tensors = load_file(source / "model.safetensors")
    tensors[f"{LAYER}.self_attn.k_proj.weight"][3, 40] = value
    save_file(tensors, source / "model.safetensors")
    with pytest.raises(CheckpointError, match=rf"tensor {LAYER}\.self_attn\.k_proj\.weight has {message}"):
        read_quantized(sources(source), f"{LAYER}.self_attn.qkv_proj", (96, 48), form_of("q4f16_1"))


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("model.lost", (3, 3), r"there is no tensor model\.lost\.weight"),
        ("lm_head", (301, 48), r"lm_head\.weight has the shape \[300, 48\]; .* takes \[301, 48\]"),
        ("lm_head", (300, 32), r"lm_head\.weight has the shape \[300, 48\]; .* takes \[300, 32\]"),
        ("model.norm", (48, 48), r"model\.norm\.weight has the shape \[48\]; .* takes \[48, 48\]"),
        (f"{LAYER}.mlp.gate_up_proj", (47, 48), r"gate_up_proj\.weight has the shape \[48, 48\]"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, name: str, shape: tuple[int, int], message: str) -> None:
    """The error names a tensor that is missing, or one of another shape with its shape."""
    checkpoint = sources(write_checkpoint(tmp_path, SMALL))
    with pytest.raises(CheckpointError, match=message):
        read_quantized(checkpoint, name, shape, form_of("q8f32_1"))


def test_integers_that_do_not_fit_are_named(tmp_path: Path) -> None:
    """The error names integers of another shape and scales of another type than the scheme's."""
    checkpoint = sources(write_mlc_checkpoint(tmp_path))
    name, four, single = "model.embed_tokens", form_of("q4f16_1"), form_of("q4f32_1")
    with pytest.raises(CheckpointError, match=r"q_weight has the shape \[4, 6\]; .* takes \[4, 8\]"):
        read_quantized(checkpoint, name, (4, 48), four)
    with pytest.raises(CheckpointError, match=r"q_scale is float16, but its quantization requires float32"):
        read_quantized(checkpoint, name, (4, 48), single)

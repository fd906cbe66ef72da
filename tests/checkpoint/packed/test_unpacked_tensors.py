"""Packed weights of every form, read from checkpoints that follow the definitions of the formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from mlc_serve.checkpoint.directory import open_checkpoint
from mlc_serve.checkpoint.quantized_weights import read_quantized
from mlc_serve.checkpoint.safetensors_weights import SafetensorsWeights
from mlc_serve.checkpoint.sources import Sources
from mlc_serve.errors import CheckpointError
from mlc_serve.models.weight_names import decoder_names
from mlc_serve.quantization.scheme import SCHEMES, GroupFormat
from tests.checkpoints import Shape, write_checkpoint
from tests.packed_checkpoints import AWQ, FP8, GPTQ, compressed, write_packed_checkpoint

# Rows of K and V are no whole number of blocks of 48, and rows of 192 are three groups of 64.
SMALL = Shape(
    hidden_size=64, num_layers=1, num_heads=4, num_kv_heads=2, intermediate_size=192, vocab_size=300
)
LAYER = "model.layers.0"
FUSED = {
    f"{LAYER}.self_attn.qkv_proj": ((128, 64), ("q_proj", "k_proj", "v_proj")),
    f"{LAYER}.mlp.gate_up_proj": ((384, 64), ("gate_proj", "up_proj")),
    f"{LAYER}.mlp.down_proj": ((64, 192), ("down_proj",)),
}
GROUPS_OF_64 = {"strategy": "group", "group_size": 64, "type": "int"}
FORMS: dict[str, dict[str, Any]] = {
    "gptq": GPTQ,
    "gptq v2": GPTQ | {"checkpoint_format": "gptq_v2"},
    "gptq asymmetric": GPTQ | {"sym": False, "group_size": 32},
    "gptq 8 bits": GPTQ | {"bits": 8},
    "gptq 8 bits asymmetric": GPTQ | {"bits": 8, "sym": False},
    "gptq whole rows": GPTQ | {"group_size": -1},
    "gptq groups longer than rows": GPTQ | {"group_size": 1 << 30},
    "gptq in order of activations": GPTQ | {"desc_act": True, "sym": False, "group_size": 32},
    "awq": AWQ,
    "fp8 blocks": FP8,
    "fp8 blocks longer than rows": FP8 | {"weight_block_size": [1 << 30, 1 << 30]},
    "fp8 tensors": FP8 | {"weight_block_size": None},
    "int4": compressed("pack-quantized", num_bits=4, **GROUPS_OF_64),
    "int4 asymmetric": compressed("pack-quantized", num_bits=4, **GROUPS_OF_64 | {"symmetric": False}),
    "int8 words": compressed("pack-quantized", num_bits=8, strategy="channel", type="int"),
    "int8": compressed("int-quantized", num_bits=8, strategy="channel", type="int"),
    "fp8 rows": compressed("float-quantized", num_bits=8, strategy="channel", type="float"),
}
# The schemes that hold the integers of a form as they are.
HELD = {
    "gptq": ("q8f32_1", "q4f16_1", "q4f32_1"),
    "gptq v2": ("q8f32_1", "q4f16_1"),
    "gptq 8 bits": ("q8f32_1",),
    "gptq whole rows": ("q8f32_1", "q4f16_1"),
    "gptq groups longer than rows": ("q8f32_1",),
    "awq": ("q8f32_1",),
    "int4": ("q8f32_1", "q4f16_1"),
    "int4 asymmetric": ("q8f32_1",),
    "int8 words": ("q8f32_1",),
    "int8": ("q8f32_1",),
}


def form_of(scheme: str) -> GroupFormat:
    """The group format of a scheme with integers."""
    form = SCHEMES[scheme].groups
    assert form is not None
    return form


def read(directory: Path, name: str, scheme: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A weight as a scheme holds it, in float32."""
    form, (shape, _) = form_of(scheme), FUSED[name]
    weight = read_quantized(Sources(open_checkpoint(directory), decoder_names("qkv_proj")), name, shape, form)
    scale = weight.scale.astype(np.float64).repeat(form.group_size, axis=1)
    numbers = (weight.stored.astype(np.float64) - form.offset) * scale
    return numbers[:, : shape[1]].astype(np.float32)


def stored(directory: Path) -> dict[str, Any]:
    """The tensors of a file, as they are stored."""
    weights = SafetensorsWeights(directory)
    return {name: np.array(weights.tensor(name)) for name in weights.names}


def joined(tensors: dict[str, Any], name: str) -> Any:
    """The rows of a fused weight."""
    stem = name.rpartition(".")[0]
    return np.concatenate([tensors[f"{stem}.{part}.weight"] for part in FUSED[name][1]])


@pytest.mark.parametrize("form", FORMS)
def test_weights_are_what_their_format_says(tmp_path: Path, form: str) -> None:
    """Names, shapes, values and configuration are those of a checkpoint of the dequantized weights."""
    expected = write_packed_checkpoint(tmp_path, FORMS[form], SMALL)
    checkpoint = open_checkpoint(tmp_path)
    assert set(checkpoint.tensors.names) == expected.keys()
    for name, tensor in expected.items():
        found = checkpoint.tensors.tensor(name)
        assert checkpoint.tensors.shape(name) == found.shape
        np.testing.assert_array_equal(found, tensor)
    plain = open_checkpoint(write_checkpoint(tmp_path / "plain", SMALL))
    assert checkpoint.config == plain.config


@pytest.mark.parametrize(("form", "scheme"), [(form, scheme) for form in HELD for scheme in HELD[form]])
def test_a_scheme_that_can_hold_the_integers_holds_them(tmp_path: Path, form: str, scheme: str) -> None:
    """Fused or not, what the library's integers and scales stand for is what the packed ones stand for."""
    expected = write_packed_checkpoint(tmp_path, FORMS[form], SMALL)
    for name in FUSED:
        np.testing.assert_array_equal(read(tmp_path, name, scheme), joined(expected, name))


@pytest.mark.parametrize("form", sorted(FORMS.keys() - HELD.keys()))
def test_other_integers_are_rounded_once_more(tmp_path: Path, form: str) -> None:
    """Where eight bits can't hold them, the error is at most half a step of what eight bits can hold."""
    expected = write_packed_checkpoint(tmp_path, FORMS[form], SMALL)
    for name in FUSED:
        weight = joined(expected, name)
        groups = weight.reshape(len(weight), -1, form_of("q8f32_1").group_size)
        steps = np.abs(groups).max(axis=2, keepdims=True) / 127
        error = np.abs(read(tmp_path, name, "q8f32_1").reshape(groups.shape) - groups)
        assert 0 < (error / steps).max() < 0.57  # the step is rounded, too


@pytest.mark.parametrize(
    ("form", "end", "change", "message"),
    [
        (
            "gptq",
            "qzeros",
            lambda tensor: tensor[:, 1:],
            r"k_proj.qzeros has the shape \[1, 3\]; .* \[1, 4\]",
        ),
        ("gptq", "scales", lambda tensor: tensor[0], r"k_proj.scales has the shape \[32\]; .* \[1, 32\]"),
        ("gptq", "g_idx", lambda tensor: tensor + 1, "g_idx names groups that are not between 0 and 0"),
        ("gptq", "qweight", lambda tensor: tensor.astype(np.int64), "qweight is int64, but must be int32"),
        ("awq", "scales", lambda tensor: tensor[:, :8], r"scales has the shape \[1, 8\]; .* \[1, 32\]"),
        ("fp8 blocks", "weight_scale_inv", lambda tensor: tensor.T, r"shape \[2, 1\]; .* must be \[1, 2\]"),
        (
            "int4",
            "weight_shape",
            lambda tensor: tensor - 1,
            r"weight_shape is \[31, 63\], but must be \[32, 64\]",
        ),
    ],
)
def test_tensors_that_contradict_each_other_are_named(
    tmp_path: Path, form: str, end: str, change: Any, message: str
) -> None:
    """One line names the tensor."""
    write_packed_checkpoint(tmp_path, FORMS[form], SMALL)
    tensors, name = stored(tmp_path), f"{LAYER}.self_attn.k_proj.{end}"
    tensors[name] = np.ascontiguousarray(change(tensors[name]))
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=message) as caught:
        open_checkpoint(tmp_path).tensors.tensor(f"{LAYER}.self_attn.k_proj.weight")
    assert "\n" not in str(caught.value)


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    """As is any tensor that a model lacks."""
    write_packed_checkpoint(tmp_path, GPTQ, SMALL)
    tensors = stored(tmp_path)
    del tensors[f"{LAYER}.self_attn.k_proj.scales"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"there is no tensor .*k_proj\.scales"):
        open_checkpoint(tmp_path).tensors.shape(f"{LAYER}.self_attn.k_proj.weight")

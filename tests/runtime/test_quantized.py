"""Models with integer weights on the CPU, compared with float32 models of the dequantized weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ml_dtypes import bfloat16
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from mlc_serve.config import EngineConfig
from mlc_serve.engine.backend import SequenceStep
from mlc_serve.loading import load_model
from mlc_serve.quantization.groups import quantize
from mlc_serve.quantization.scheme import CPU_DEFAULT, SCHEMES, GroupFormat
from mlc_serve.runtime.runner import TVMBackend
from tests.checkpoints import Architecture, Shape, write_checkpoint
from tests.mlc_checkpoints import write_packed_model

# Rows of 96 or 176 are no whole number of groups of 32 or 64, and 500 columns are no whole number of tiles.
RAGGED = Shape(tied=True, hidden_size=96, num_heads=6, intermediate_size=176, vocab_size=500, biased=True)
QWEN3 = Shape("qwen3", num_kv_heads=2, head_dim=48)
FORMS = {name: scheme.groups for name, scheme in SCHEMES.items() if scheme.groups is not None}
IDS = [7, 41, 300, 12, 12, 499, 0, 88, 205, 131, 9, 64, 333, 17, 250, 3, 81, 5, 430, 60]


def logits(directory: Path, quantization: str | None, *lengths: int) -> NDArray[np.float32]:
    """The logits, `(len(IDS), vocab)`, computed in forward passes of these lengths."""
    config = EngineConfig(model=str(directory), quantization=quantization, max_num_sequence=2, verbose=False)
    backend = load_model(config, "cpu", lambda line: None).backend
    assert isinstance(backend, TVMBackend)
    backend.state.add_sequence(0)
    ends = np.cumsum(lengths)
    steps = [SequenceStep(0, IDS[end - size : end]) for end, size in zip(ends, lengths, strict=True)]
    return np.concatenate([backend.forward([s], list(range(len(s.token_ids)))).copy() for s in steps])


def with_changed_weights(
    source: Path, directory: Path, change: Callable[[NDArray[Any]], NDArray[Any]]
) -> Path:
    """A copy of a checkpoint whose tensors are changed, but not its configuration, so that the library of the
    source serves it as well.
    """
    shutil.copytree(source, directory)
    tensors = load_file(source / "model.safetensors")
    save_file({name: change(tensor) for name, tensor in tensors.items()}, directory / "model.safetensors")
    return directory


def _restored(tensor: NDArray[Any], form: GroupFormat) -> NDArray[Any]:
    """A matrix as its integers and scales have it; anything else as it is."""
    if tensor.ndim != 2:
        return tensor
    quantized = quantize(tensor, form)
    integers = quantized.stored.astype(np.float32) - form.offset
    numbers = integers * quantized.scale.astype(np.float32).repeat(form.group_size, axis=1)
    return np.ascontiguousarray(numbers[:, : tensor.shape[1]])


@pytest.mark.parametrize(
    ("shape", "scheme"),
    [*((RAGGED, scheme) for scheme in FORMS), (QWEN3, CPU_DEFAULT)],
    ids=lambda value: getattr(value, "architecture", value),
)
def test_products_are_those_of_what_the_integers_stand_for(tmp_path: Path, shape: Shape, scheme: str) -> None:
    """Prefill and decode give the logits of the dequantized weights, but for inputs rounded to eight bits."""
    source = write_checkpoint(tmp_path / "source", shape, seed=3)
    restored = with_changed_weights(source, tmp_path / "restored", partial(_restored, form=FORMS[scheme]))
    expected = logits(restored, "q0f32", 20)
    for lengths in ((20,), (17, 1, 1, 1)):
        found = logits(source, scheme, *lengths)
        error = np.sqrt(((found - expected) ** 2).mean() / expected.var())
        assert error < 0.04, lengths


@pytest.mark.parametrize("scheme", FORMS)
def test_a_row_does_not_depend_on_those_beside_it(tmp_path: Path, scheme: str) -> None:
    """Tokens that are computed together get the logits of one token at a time, to the last bit."""
    source = write_checkpoint(tmp_path / "source", RAGGED, seed=3)
    one_by_one = logits(source, scheme, 13, *[1] * 7)
    np.testing.assert_array_equal(logits(source, scheme, 13, 7), one_by_one)


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3"])
def test_a_model_of_mlc_is_served_as_mlc_quantized_it(tmp_path: Path, architecture: Architecture) -> None:
    """Its logits equal, bit for bit, those of its original checkpoint quantized by us in the same scheme."""
    # In float16, in which MLC leaves norms and biases under q4f16_1.
    source = write_checkpoint(tmp_path / "source", Shape(architecture), seed=4, dtype="float16")
    packed = write_packed_model(tmp_path / "packed", source, "q4f16_1")
    np.testing.assert_array_equal(logits(packed, None, 20), logits(source, "q4f16_1", 20))


@pytest.mark.parametrize(
    ("quantization", "dtype"),
    [
        ("q0f32", bfloat16),
        ("q0f16", np.float16),
        ("q0bf16", bfloat16),
        ("q4f16_1", np.float16),
        ("q4f32_1", np.float32),
        ("q3f16_1", np.float16),
    ],
)
def test_every_format_of_mlc_is_served(tmp_path: Path, quantization: str, dtype: Any) -> None:
    """A directory with a tied embedding gives the logits of its original checkpoint in the same scheme, bit
    for bit. Tensors of q0f32 are stored as bfloat16.
    """
    single = write_checkpoint(tmp_path / "single", RAGGED, seed=6)
    # What float32 holds more precisely would be lost in MLC's directory, whose norms have the type `dtype`.
    source = with_changed_weights(single, tmp_path / "source", lambda tensor: tensor.astype(dtype))
    packed = write_packed_model(tmp_path / "packed", source, quantization, halved=quantization == "q0f32")
    np.testing.assert_array_equal(logits(packed, None, 20), logits(source, quantization, 20))


@pytest.mark.parametrize("shape", [RAGGED, QWEN3], ids=lambda shape: shape.architecture)
def test_bfloat16_weights_are_read_as_they_are(tmp_path: Path, shape: Shape) -> None:
    """A bfloat16 checkpoint gives its float32 logits, but for how products round their inputs."""
    source = write_checkpoint(tmp_path / "source", shape, seed=5)
    rounded = with_changed_weights(source, tmp_path / "rounded", lambda tensor: tensor.astype(bfloat16))
    expected, found = logits(rounded, "q0f32", 20), logits(rounded, "q0bf16", 20)
    assert np.sqrt(((found - expected) ** 2).mean() / expected.var()) < 0.02

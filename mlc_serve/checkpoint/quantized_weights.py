"""A checkpoint's weight as integers and scales: its own, where MLC has quantized it, or made here."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlc_serve.checkpoint.checkpoint import Checkpoint
from mlc_serve.checkpoint.sources import check_shape, source_names
from mlc_serve.errors import CheckpointError
from mlc_serve.quantization.groups import Quantized, quantize, unpack_words
from mlc_serve.quantization.scheme import GroupFormat


def read_quantized(checkpoint: Checkpoint, name: str, shape: tuple[int, ...], form: GroupFormat) -> Quantized:
    """The weight `name`, without ".weight" at its end, whose floating-point form is of the shape `(N, K)`.

    Raises CheckpointError if the checkpoint lacks it, has it in another shape or type, or has values in it
    that are not finite or that no scale can hold.
    """
    words = source_names(checkpoint, f"{name}.q_weight")
    if all(source in checkpoint.tensor_names for source in words):
        scales = source_names(checkpoint, f"{name}.q_scale")
        return _unpacked(checkpoint, name, (words, scales), shape, form)
    return _made(checkpoint, name, shape, form)


def _made(checkpoint: Checkpoint, name: str, shape: tuple[int, ...], form: GroupFormat) -> Quantized:
    """Quantized here; of a fused weight one part after the other is in memory."""
    name = f"{name}.weight"
    num_rows, parts = 0, []
    for source in source_names(checkpoint, name):
        tensor = checkpoint.tensor(source)
        check_shape(checkpoint, source, tensor.shape, (*tensor.shape[:1], shape[1]))
        num_rows += len(tensor)
        try:
            parts.append(quantize(tensor, form))
        except ValueError as error:
            raise CheckpointError(f"{checkpoint.directory}: tensor {source} {error}") from error
    check_shape(checkpoint, name, (num_rows, shape[1]), shape)
    return _joined(parts)


def _joined(parts: list[Quantized]) -> Quantized:
    if len(parts) == 1:
        return parts[0]
    return Quantized(
        np.concatenate([part.stored for part in parts]), np.concatenate([part.scale for part in parts])
    )


def _unpacked(
    checkpoint: Checkpoint,
    name: str,
    sources: tuple[list[str], list[str]],
    shape: tuple[int, ...],
    form: GroupFormat,
) -> Quantized:
    """As MLC has quantized it."""
    num_rows, width = shape[0], form.padded(shape[1])
    words = _read(checkpoint, sources[0], "uint32")
    scale = _read(checkpoint, sources[1], form.scale_dtype)
    check_shape(checkpoint, f"{name}.q_weight", words.shape, (num_rows, width * form.bits // 32))
    check_shape(checkpoint, f"{name}.q_scale", scale.shape, (num_rows, width // form.group_size))
    return Quantized(unpack_words(words, shape[1], form), scale)


def _read(checkpoint: Checkpoint, names: list[str], dtype: str) -> NDArray[Any]:
    tensors = [checkpoint.tensor(name) for name in names]
    for name, tensor in zip(names, tensors, strict=True):
        if tensor.dtype != dtype:
            raise CheckpointError(
                f"{checkpoint.directory}: tensor {name} is {tensor.dtype}; its quantization has {dtype} there"
            )
    return tensors[0] if len(tensors) == 1 else np.concatenate(tensors)

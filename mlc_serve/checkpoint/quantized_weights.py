"""Reads a checkpoint's weight as integers and scales: MLC's own, those that another program has packed, or
those that are made here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlc_serve.checkpoint.sources import Shape, Sources
from mlc_serve.models.weight_names import Part
from mlc_serve.quantization.groups import Quantized, dequantize, quantize, unpack_words
from mlc_serve.quantization.packed import repacked
from mlc_serve.quantization.scheme import SCHEMES, GroupFormat


def read_quantized(sources: Sources, name: str, shape: Shape, form: GroupFormat) -> Quantized:
    """The weight `name`, which has no ".weight" at its end, and whose floating-point form has the shape
    `(N, K)`.

    Raises CheckpointError if the checkpoint lacks the weight, if it has another shape or type, or if it has
    values that are not finite or that no scale can hold.
    """
    if sources.has(f"{name}.q_weight"):
        return _unpacked(sources, name, shape, form)
    return _made(sources, f"{name}.weight", shape, form)


def read_restored(sources: Sources, name: str, shape: Shape) -> NDArray[np.float32] | None:
    """The weight `name`, as read_quantized has it, in floating point, if the checkpoint has its integers;
    None otherwise. MLC quantizes every table and product, also those that our libraries take as they are.
    """
    scheme = SCHEMES.get(sources.checkpoint.quantization or "")
    if scheme is None or scheme.groups is None or not sources.has(f"{name}.q_weight"):
        return None
    return dequantize(_unpacked(sources, name, shape, scheme.groups), shape[1], scheme.groups)


def _made(sources: Sources, name: str, shape: Shape, form: GroupFormat) -> Quantized:
    """Quantize a weight. Only one part of a fused one is in memory at a time."""
    parts = [_quantized_part(sources, part, shape[1], form) for part in sources.of(name)]
    sources.check_shape(name, (sum(len(part.stored) for part in parts), shape[1]), shape)
    if len(parts) == 1:
        return parts[0]
    return Quantized(
        np.concatenate([part.stored for part in parts]), np.concatenate([part.scale for part in parts])
    )


def _quantized_part(sources: Sources, part: Part, depth: int, form: GroupFormat) -> Quantized:
    packed = sources.packed(part)
    tensor = sources.values(part) if packed is None else packed.integers
    sources.check_shape(part.name, tensor.shape, (*tensor.shape[:1], depth))
    try:
        return quantize(tensor, form) if packed is None else repacked(packed, form)
    except ValueError as error:
        raise sources.error(f"{part.name} {error}") from error


def _unpacked(sources: Sources, name: str, shape: Shape, form: GroupFormat) -> Quantized:
    """The integers and scales that MLC has made."""
    num_rows, width = shape[0], form.padded(shape[1])
    words = _read(sources, f"{name}.q_weight", "uint32")
    scale = _read(sources, f"{name}.q_scale", form.scale_dtype)
    sources.check_shape(f"{name}.q_weight", words.shape, (num_rows, width // form.per_word))
    sources.check_shape(f"{name}.q_scale", scale.shape, (num_rows, width // form.group_size))
    return Quantized(unpack_words(words, shape[1], form), scale)


def _read(sources: Sources, name: str, dtype: str) -> NDArray[Any]:
    tensors = sources.tensors(name)
    for source, tensor in tensors.items():
        if tensor.dtype != dtype:
            raise sources.error(f"{source} is {tensor.dtype}, but its quantization requires {dtype}")
    parts = list(tensors.values())
    return parts[0] if len(parts) == 1 else np.concatenate(parts)

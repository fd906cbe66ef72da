"""Group quantization: rows of weights are stored as small integers, and each group of them has a scale.

As in MLC's schemes, the scale of a group is its largest magnitude divided by the largest integer. So zero is
exact, and the error of a weight is at most half of the scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlc_serve.quantization.scheme import GroupFormat

_PIECE = 1 << 18  # weights that are quantized at a time: so many fit into the processor's cache


@dataclass(frozen=True)
class Quantized:
    """Integers `stored`, uint8 `(N, Kp)`, where `Kp` is the depth in whole groups, and scales
    `(N, Kp / group_size)`. Integers beyond the depth stand for zero.
    """

    stored: NDArray[np.uint8]
    scale: NDArray[Any]


def quantize(weight: NDArray[Any], form: GroupFormat) -> Quantized:
    """Quantize a `(N, K)` weight of any floating-point type.

    Raises ValueError if a value is not finite, or if a group's scale does not fit the type of scales. The
    error's text is meant to follow the tensor's name.
    """
    num_rows, depth = weight.shape
    width = form.padded(depth)
    stored = np.empty((num_rows, width), np.uint8)
    scale = np.empty((num_rows, width // form.group_size), form.scale_dtype)
    step = max(_PIECE // width, 1)
    for start in range(0, num_rows, step):
        rows = slice(start, start + step)
        piece = np.zeros((len(weight[rows]), width), np.float32)
        piece[:, :depth] = weight[rows]
        _quantize_piece(piece, stored[rows], scale[rows], form)
    return Quantized(stored, scale)


def _quantize_piece(
    rows: NDArray[np.float32], stored: NDArray[np.uint8], scale: NDArray[Any], form: GroupFormat
) -> None:
    """Fill `stored` and `scale`; `rows` is overwritten."""
    groups = rows.reshape(*scale.shape, form.group_size)
    peak = np.maximum(groups.max(axis=2), -groups.min(axis=2))
    if not np.isfinite(peak).all():
        raise ValueError("has values that are not finite")
    with np.errstate(over="ignore"):  # the result is checked below
        scale[:] = peak / form.limit
    if not np.isfinite(scale).all():
        raise ValueError(f"has values that a scale in {form.scale_dtype} can't hold")
    # A group whose scale is 0 is all zeros, or too close to zero for the scale's type.
    divisor = np.where(scale == 0, np.inf, scale).astype(np.float32)
    groups /= divisor[:, :, None]
    np.rint(rows, out=rows)
    np.clip(rows, -form.limit, form.limit, out=rows)
    rows += form.offset
    stored[:] = rows


def dequantize(quantized: Quantized, depth: int, form: GroupFormat) -> NDArray[np.float32]:
    """The weights `(N, depth)` that integers and scales stand for."""
    groups = quantized.stored.reshape(*quantized.scale.shape, form.group_size).astype(np.float32)
    groups -= form.offset
    groups *= quantized.scale.astype(np.float32)[:, :, None]
    return groups.reshape(len(groups), -1)[:, :depth]


def unpack_words(words: NDArray[np.uint32], depth: int, form: GroupFormat) -> NDArray[np.uint8]:
    """The integers `(N, Kp)` in MLC's words `(N, Kp / per_word)`, where the lowest bits come first along the
    depth. Integers beyond the depth are replaced by the integer for zero.
    """
    last_bits = np.uint32((1 << form.word_bits) - 1)
    stored = np.empty((len(words), words.shape[1] * form.per_word), np.uint8)
    for place in range(form.per_word):
        stored[:, place :: form.per_word] = words >> np.uint32(place * form.word_bits) & last_bits
    stored[:, depth:] = form.offset
    return stored


def pack_words(stored: NDArray[np.uint8], depth: int, form: GroupFormat) -> NDArray[np.uint32]:
    """The words that `unpack_words` reads. Integers beyond the depth are stored as 0, as in MLC."""
    integers = np.array(stored)
    integers[:, depth:] = 0
    words = np.zeros((len(stored), stored.shape[1] // form.per_word), np.uint32)
    for place in range(form.per_word):
        words |= integers[:, place :: form.per_word].astype(np.uint32) << np.uint32(place * form.word_bits)
    return words

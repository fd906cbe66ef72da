"""Group quantization written out: one weight after the other, in Python's numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlc_serve.quantization.scheme import GroupFormat


def mlc_words(weight: NDArray[Any], form: GroupFormat) -> tuple[NDArray[np.uint32], NDArray[Any]]:
    """A `(N, K)` weight as MLC stores it: as many integers in a word as fit, lowest bits first, and scales.

    Integers beyond the depth are zeros, which is not what stands for the number zero.
    """
    num_rows, depth = weight.shape
    num_groups = -(-depth // form.group_size)
    per_word = 32 // form.word_bits
    words = np.zeros((num_rows, num_groups * form.group_size // per_word), np.uint32)
    scale = np.zeros((num_rows, num_groups), form.scale_dtype)
    for n, group in np.ndindex(*scale.shape):
        start = group * form.group_size
        values = [float(value) for value in weight[n, start : start + form.group_size]]
        scale[n, group] = max(map(abs, values)) / form.limit
        step = float(scale[n, group]) or 1.0
        for k, value in enumerate(values, start):
            integer = min(max(round(value / step), -form.limit), form.limit) + form.offset
            words[n, k // per_word] |= np.uint32(integer << form.word_bits * (k % per_word))
    return words, scale


def words_to_weight(
    words: NDArray[np.uint32], scale: NDArray[Any], depth: int, form: GroupFormat
) -> NDArray[np.float32]:
    """The numbers that `mlc_words` stands for, `(N, depth)`."""
    per_word = 32 // form.word_bits
    weight = np.zeros((len(words), depth), np.float32)
    for n, k in np.ndindex(*weight.shape):
        integer = int(words[n, k // per_word]) >> form.word_bits * (k % per_word) & (1 << form.word_bits) - 1
        weight[n, k] = (integer - form.offset) * float(scale[n, k // form.group_size])
    return weight

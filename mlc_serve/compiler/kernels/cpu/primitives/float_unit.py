"""How a CPU multiplies floating-point numbers: room for sums in its registers, and its instructions."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FloatUnit:
    """A product keeps the sums of `tiles` tiles of 16 columns by `rows` rows in registers, and attention
    keeps `sums` vectors of 16 there: the numbers that measured best. With `has_pairs` kernels use
    AVX512-BF16, which adds up pairs of products of bfloat16.
    """

    tiles: int
    rows: int
    sums: int
    has_pairs: bool

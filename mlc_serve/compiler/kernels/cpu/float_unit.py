"""What a CPU has for products of floating-point numbers."""

from __future__ import annotations

from dataclasses import dataclass

from tvm.target import Target

from mlc_serve.compiler.features import has


@dataclass(frozen=True)
class FloatUnit:
    """Registers with room for the sums of `tiles` tiles of 16 columns by `rows` rows, and in attention for
    `sums` vectors of 16: what measured best. With `has_pairs` there is AVX512-BF16, which sums up pairs of
    products of bfloat16.
    """

    tiles: int
    rows: int
    sums: int
    has_pairs: bool


def float_unit_for(target: Target) -> FloatUnit:
    """That of the target's CPU."""
    tiles, rows, sums = (2, 8, 16) if has(target, "avx512f") else (2, 2, 6)
    return FloatUnit(tiles, rows, sums, has(target, "avx512bf16"))

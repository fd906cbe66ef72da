"""What a CPU has for products of floating-point numbers."""

from __future__ import annotations

from dataclasses import dataclass

from tvm.target import Target

from mlc_serve.compiler.features import has


@dataclass(frozen=True)
class FloatUnit:
    """Registers with room for the sums of `tiles` tiles of 16 columns by `rows` rows: what measured best.
    With `has_pairs` there is AVX512-BF16, which sums up pairs of products of bfloat16.
    """

    tiles: int
    rows: int
    has_pairs: bool


def float_unit_for(target: Target) -> FloatUnit:
    """That of the target's CPU."""
    tiles, rows = (2, 8) if has(target, "avx512f") else (2, 2)
    return FloatUnit(tiles, rows, has(target, "avx512bf16"))

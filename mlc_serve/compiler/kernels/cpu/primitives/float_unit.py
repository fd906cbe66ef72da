"""What a CPU has for products of floating-point numbers."""

from __future__ import annotations

from dataclasses import dataclass

from tvm.target import Target
from tvm.target.codegen import llvm_get_system_cpu

from mlc_serve.compiler.features import has
from mlc_serve.compiler.kernels.cpu.primitives.multiplier_rate import pairs_pay


@dataclass(frozen=True)
class FloatUnit:
    """Registers with room for the sums of `tiles` tiles of 16 columns by `rows` rows, and in attention for
    `sums` vectors of 16: what measured best. With `has_pairs` kernels use AVX512-BF16, which sums up pairs of
    products of bfloat16.
    """

    tiles: int
    rows: int
    sums: int
    has_pairs: bool


def float_unit_for(target: Target) -> FloatUnit:
    """That of the target's CPU. If it is this machine's, it is measured whether pairs are the faster ones."""
    tiles, rows, sums = (2, 8, 16) if has(target, "avx512f") else (2, 2, 6)
    return FloatUnit(tiles, rows, sums, _has_fast_pairs(target))


def _has_fast_pairs(target: Target) -> bool:
    if not has(target, "avx512bf16"):
        return False
    mcpu = str(target.attrs["mcpu"])
    return mcpu != llvm_get_system_cpu() or pairs_pay(mcpu)

"""How a CPU multiplies floating-point numbers: room for sums in its registers, and its instructions."""

from __future__ import annotations

from dataclasses import dataclass

from tvm.target import Target
from tvm.target.codegen import llvm_get_system_cpu

from mlc_serve.compiler.features import has
from mlc_serve.compiler.kernels.cpu.primitives.multiplier_rate import pairs_pay


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


def float_unit_for(target: Target) -> FloatUnit:
    """The unit of the target's CPU. Where that is the CPU of this machine, a measurement decides on pairs."""
    tiles, rows, sums = (2, 8, 16) if has(target, "avx512f") else (2, 2, 6)
    return FloatUnit(tiles, rows, sums, _has_fast_pairs(target))


def _has_fast_pairs(target: Target) -> bool:
    if not has(target, "avx512bf16"):
        return False
    mcpu = str(target.attrs["mcpu"])
    return mcpu != llvm_get_system_cpu() or pairs_pay(mcpu)

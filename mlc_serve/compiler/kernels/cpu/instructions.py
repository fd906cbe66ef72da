"""Which instructions the kernels for a CPU are made of. `layers.cpu` chooses the kernels themselves."""

from __future__ import annotations

from tvm.target import Target
from tvm.target.codegen import llvm_get_system_cpu

from mlc_serve.compiler.features import has
from mlc_serve.compiler.kernels.cpu.linear.dot import (
    Dot,
    MagnitudeDot,
    MixedDot,
    PortableDot,
    ShortDot,
    SignedDot,
)
from mlc_serve.compiler.kernels.cpu.primitives.float_unit import FloatUnit
from mlc_serve.compiler.kernels.cpu.primitives.multiplier_rate import pairs_pay
from mlc_serve.quantization.scheme import GroupFormat


def float_unit_for(target: Target) -> FloatUnit:
    """How the target's CPU multiplies floating-point numbers. If that is the CPU of this machine, a
    measurement decides whether pairs of bfloat16 are used.
    """
    tiles, rows, sums = (2, 8, 16) if has(target, "avx512f") else (2, 2, 6)
    return FloatUnit(tiles, rows, sums, _has_fast_pairs(target))


def _has_fast_pairs(target: Target) -> bool:
    if not has(target, "avx512bf16"):
        return False
    mcpu = str(target.attrs["mcpu"])
    return mcpu != llvm_get_system_cpu() or pairs_pay(mcpu)


def dot_for(target: Target, groups: GroupFormat) -> Dot:
    """The fastest way in which the target's CPU adds up products of bytes, for weights of that format."""
    if has(target, "avx512vnni"):
        return MixedDot("llvm.x86.avx512.vpdpbusd.512", 16, 2, 4, groups.offset)
    if has(target, "avxvnni"):
        return MixedDot("llvm.x86.avx512.vpdpbusd.256", 8, 2, 2, groups.offset)
    if has(target, "i8mm"):
        return MixedDot("llvm.aarch64.neon.usdot.v4i32.v16i8", 4, 1, 4, groups.offset)
    if has(target, "dotprod"):
        is_flipped = groups.bits == 8
        return SignedDot(is_flipped, groups.offset - 128 if is_flipped else groups.offset)
    if has(target, "avx2"):
        return _avx2_dot(target, groups)
    return PortableDot(16, 1, 2, groups.offset)


def _avx2_dot(target: Target, groups: GroupFormat) -> Dot:
    """Without VNNI. AVX-512 has more registers, and wider ones."""
    is_wide = has(target, "avx512bw") and has(target, "avx512vl")
    if groups.bits == 4:
        return ShortDot(16, 2, 4, groups.offset) if is_wide else ShortDot(8, 1, 4, groups.offset)
    return MagnitudeDot(1, 4, groups.offset - 128)

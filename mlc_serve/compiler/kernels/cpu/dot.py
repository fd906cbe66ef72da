"""Sums of four products of bytes: the instruction that integer products are made of, for each kind of CPU.

A word is four signed activations; beside it lie four integers of a weight for each column. The instruction adds
the four products to a column's 32-bit sum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import tvm
from tvm import tirx
from tvm.target import Target

from mlc_serve.compiler.features import has

Expr = tvm.ir.Expr


@dataclass(frozen=True)
class Dot:
    """One way to add up products.

    `accumulate(sums, weights, word)` takes sums int32 and unsigned weights uint8 of `columns` columns, and a word
    int32. `tiles` tiles of 16 columns by `rows` rows (1, 2 or 4) are what registers have room for.
    """

    columns: int
    tiles: int
    rows: int
    accumulate: Callable[[Expr, Expr, Expr], Expr]


def dot_for(target: Target) -> Dot:
    """The best that a CPU has."""
    if has(target, "avx512vnni"):
        return Dot(16, 2, 4, _avx512_vnni)
    if has(target, "avxvnni"):
        return Dot(8, 1, 2, _avx_vnni)
    return Dot(16, 1, 2, _portable)


def _avx512_vnni(sums: Expr, weights: Expr, word: Expr) -> Expr:
    # The weights are the operand in a register, so that the word is broadcast from memory.
    bytes_ = tirx.reinterpret("int8x64", tirx.Broadcast(word, 16))
    return tirx.call_llvm_pure_intrin("int32x16", "llvm.x86.avx512.vpdpbusd.512", sums, weights, bytes_)


def _avx_vnni(sums: Expr, weights: Expr, word: Expr) -> Expr:
    bytes_ = tirx.reinterpret("int8x32", tirx.Broadcast(word, 8))
    return tirx.call_llvm_pure_intrin("int32x8", "llvm.x86.avx512.vpdpbusd.256", sums, weights, bytes_)


def _portable(sums: Expr, weights: Expr, word: Expr) -> Expr:
    quads = tirx.reinterpret("int32x16", weights)
    for place in range(0, 32, 8):
        weight = tirx.bitwise_and(tirx.shift_right(quads, _all(place)), _all(255))
        activation = tirx.shift_right(tirx.shift_left(word, tirx.const(24 - place, "int32")), tirx.const(24, "int32"))
        sums = sums + weight * tirx.Broadcast(activation, 16)
    return sums


def _all(value: int) -> Expr:
    return tirx.Broadcast(tirx.const(value, "int32"), 16)

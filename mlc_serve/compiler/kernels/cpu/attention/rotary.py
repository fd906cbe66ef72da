"""Rotary position embedding of single heads."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.primitives.lanes import lanes
from mlc_serve.compiler.kernels.cpu.primitives.sine import cosine, part_of_a_turn, sine
from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local
from mlc_serve.compiler.kernels.cpu.primitives.vector import broadcast, vector
from mlc_serve.models.rope import Rope


class HeadRotation(NamedTuple):
    """Macros that rotate a head from one Row into another, of any buffers.

    `start(position, turn)` prepares the local buffer `turn`, of `size` values, for a token. Then
    `query(source, out, turn)` and `key(source, out, turn)` rotate any of its heads.
    """

    size: int
    start: Any
    query: Any
    key: Any


def head_rotation(head_dim: int, rope: Rope | None, dtype: str) -> HeadRotation:
    """The rotation of heads of `head_dim` values into ones of the type `dtype`; without `rope`, a copy."""
    if rope is None:
        return _no_rotation(head_dim, dtype)
    rotate = _rotate_macro(head_dim // 2, dtype)
    return HeadRotation(head_dim, _start_macro(rope, head_dim), rotate, rotate)


def copy_head_macro(head_dim: int, dtype: str) -> Any:
    """The macro `copy(source, out)`: a head of `head_dim` values, cast to `dtype`."""
    step = lanes(head_dim)

    @T.macro
    def copy(source, out):
        for i in T.serial(head_dim // step):
            for lane in T.vectorized(step):
                out.buffer[out.index(i * step + lane)] = T.Cast(dtype, source.at(i * step + lane))

    return copy


def _no_rotation(head_dim: int, dtype: str) -> HeadRotation:
    copy_head = copy_head_macro(head_dim, dtype)

    @T.macro
    def start(position, turn):
        T.evaluate(0)

    @T.macro
    def copy(source, out, turn):
        copy_head(source, out)

    return HeadRotation(1, start, copy, copy)


def _start_macro(rope: Rope, head_dim: int) -> Any:
    """The macro `start(position, turn)`: the cosines of all pairs, then their sines."""
    half = head_dim // 2
    turns_a_step = _constants(rope.frequencies(head_dim) / (2 * math.pi))

    @T.macro
    def start(position, turn):
        with T.sblock("turn"):
            T.reads()
            T.writes()
            turns = local((half,))
            turns[vector(0, half)] = T.Cast(
                f"float32x{half}",
                part_of_a_turn(broadcast(T.Cast("float64", position), half), turns_a_step),
            )
            turn[vector(0, half)] = cosine(turns[vector(0, half)])
            turn[vector(half, half)] = sine(turns[vector(0, half)])

    return start


def _constants(values: NDArray[np.float64]) -> Any:
    """Constants as one vector, which LLVM splits over as many registers as it needs."""
    constants = [tirx.const(float(value), "float64") for value in values]
    return tirx.Shuffle(constants, [tirx.const(i, "int32") for i in range(len(values))])


def _rotate_macro(half: int, dtype: str) -> Any:
    """The macro `rotate(source, out, turn)` for one head."""
    step = lanes(half)

    @T.macro
    def rotate(source, out, turn):
        for i in T.serial(half // step):
            with T.sblock("vector"):
                T.reads()
                T.writes()
                first = local((step,))
                second = local((step,))
                for lane in T.vectorized(step):
                    first[lane] = T.Cast("float32", source.at(i * step + lane))
                for lane in T.vectorized(step):
                    second[lane] = T.Cast("float32", source.at(half + i * step + lane))
                for lane in T.vectorized(step):
                    out.buffer[out.index(i * step + lane)] = T.Cast(
                        dtype,
                        first[lane] * turn[i * step + lane] - second[lane] * turn[half + i * step + lane],
                    )
                for lane in T.vectorized(step):
                    out.buffer[out.index(half + i * step + lane)] = T.Cast(
                        dtype,
                        second[lane] * turn[i * step + lane] + first[lane] * turn[half + i * step + lane],
                    )

    return rotate

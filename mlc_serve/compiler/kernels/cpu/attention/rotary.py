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
from mlc_serve.compiler.kernels.cpu.primitives.vector import broadcast, vector, widened
from mlc_serve.models.rope import QueryScaling, Rope


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
    num_pairs = rope.dimensions(head_dim) // 2
    key = _rotate_macro(head_dim, num_pairs, dtype, is_scaled=False)
    query = key
    if rope.query_scaling is not None:
        query = _rotate_macro(head_dim, num_pairs, dtype, is_scaled=True)
    return HeadRotation(2 * num_pairs + 1, _start_macro(rope, head_dim), query, key)


def copy_head_macro(head_dim: int, dtype: str) -> Any:
    """The macro `copy(source, out)`: a head of `head_dim` values, cast to `dtype`."""
    copy_values = _copy_macro(0, head_dim, dtype, is_scaled=False)

    @T.macro
    def copy(source, out):
        copy_values(source, out, source, 0)

    return copy


def _no_rotation(head_dim: int, dtype: str) -> HeadRotation:
    copy_values = _copy_macro(0, head_dim, dtype, is_scaled=False)

    @T.macro
    def start(position, turn):
        T.evaluate(0)

    @T.macro
    def copy(source, out, turn):
        copy_values(source, out, turn, 0)

    return HeadRotation(1, start, copy, copy)


def _start_macro(rope: Rope, head_dim: int) -> Any:
    """The macro `start(position, turn)`: the cosines of all pairs, then their sines, then the scale of
    queries.
    """
    frequencies = rope.frequencies(head_dim)
    num_pairs = len(frequencies)
    turns_a_step = _constants(frequencies / (2 * math.pi))
    factor = rope.attention_factor
    scaling = rope.query_scaling

    @T.macro
    def start(position, turn):
        with T.sblock("turn"):
            T.reads()
            T.writes()
            turns = local((num_pairs,))
            turns[vector(0, num_pairs)] = widened(
                part_of_a_turn(broadcast(T.Cast("float64", position), num_pairs), turns_a_step), num_pairs
            )
            turn[vector(0, num_pairs)] = _times(cosine(turns[vector(0, num_pairs)]), factor)
            turn[vector(num_pairs, num_pairs)] = _times(sine(turns[vector(0, num_pairs)]), factor)
            turn[2 * num_pairs] = _query_scale(position, scaling)

    return start


def _constants(values: NDArray[np.float64]) -> Any:
    """Constants as one vector, which LLVM splits over as many registers as it needs."""
    constants = [tirx.const(float(value), "float64") for value in values]
    if len(constants) == 1:
        return constants[0]
    return tirx.Shuffle(constants, [tirx.const(i, "int32") for i in range(len(values))])


def _times(values: Any, factor: float) -> Any:
    return values if factor == 1 else values * tirx.const(factor, "float32")


def _query_scale(position: Any, scaling: QueryScaling | None) -> Any:
    one = tirx.const(1, "float32")
    if scaling is None:
        return one
    windows = tirx.floordiv(position, tirx.const(scaling.window, "int32"))
    return one + tirx.const(scaling.beta, "float32") * tirx.log(one + windows.astype("float32"))


def _rotate_macro(head_dim: int, num_pairs: int, dtype: str, is_scaled: bool) -> Any:
    """The macro `rotate(source, out, turn)` for one head."""
    step = lanes(num_pairs)
    scale = 2 * num_pairs  # its place in `turn`
    copy_rest = _copy_macro(2 * num_pairs, head_dim, dtype, is_scaled)

    def scaled(value: Any, turn: Any) -> Any:
        return T.Cast(dtype, value * turn[scale] if is_scaled else value)

    @T.macro
    def rotate(source, out, turn):
        for i in T.serial(num_pairs // step):
            with T.sblock("vector"):
                T.reads()
                T.writes()
                first = local((step,))
                second = local((step,))
                for lane in T.vectorized(step):
                    first[lane] = T.Cast("float32", source.at(i * step + lane))
                for lane in T.vectorized(step):
                    second[lane] = T.Cast("float32", source.at(num_pairs + i * step + lane))
                for lane in T.vectorized(step):
                    out.buffer[out.indices(i * step + lane)] = scaled(
                        first[lane] * turn[i * step + lane]
                        - second[lane] * turn[num_pairs + i * step + lane],
                        turn,
                    )
                for lane in T.vectorized(step):
                    out.buffer[out.indices(num_pairs + i * step + lane)] = scaled(
                        second[lane] * turn[i * step + lane]
                        + first[lane] * turn[num_pairs + i * step + lane],
                        turn,
                    )
        copy_rest(source, out, turn, scale)

    return rotate


def _copy_macro(first: int, head_dim: int, dtype: str, is_scaled: bool) -> Any:
    """The macro `copy(source, out, turn, scale)`: the values from `first` on, times turn[scale] if
    `is_scaled`.
    """
    count = head_dim - first
    step = lanes(count) if count else 1

    def copied(value: Any, turn: Any, scale: int) -> Any:
        return T.Cast(dtype, T.Cast("float32", value) * turn[scale] if is_scaled else value)

    @T.macro
    def copy(source, out, turn, scale):
        for i in T.serial(count // step):
            for lane in T.vectorized(step):
                out.buffer[out.indices(first + i * step + lane)] = copied(
                    source.at(first + i * step + lane), turn, scale
                )

    return copy

"""Rounds activations to bytes: 127 steps on either side of zero, with a scale for each group of a row.

The groups are those of the weights that the row will be multiplied by. The results are words of four bytes,
scales, and the numbers that the integer sums of `integer_matmul` start from to cancel the weights' offset:
minus the offset times the sum of the group's bytes. RMS normalization can be done in the same pass.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local
from mlc_serve.compiler.kernels.cpu.primitives.thread_cost import FEW_ROWS
from mlc_serve.compiler.kernels.cpu.primitives.vector import vector
from mlc_serve.quantization.packing import LANES
from mlc_serve.quantization.scheme import GroupFormat

_STEPS = 127
_ABSOLUTE = 0x7FFFFFFF  # all bits of a float but the sign: positive floats compare as integers do


class ByteRows(NamedTuple):
    """Rows as bytes, where Kp is their width in whole groups and G the number of groups."""

    words: Any  # (1, s, Kp / 4) int32, four activations each
    scales: Any  # (1, s, G) float32
    starts: Any  # (1, s, G) int32: what integer sums start from


def quantize_macro(width: int, groups: GroupFormat, offset: int, epsilon: float | None = None) -> Any:
    """The macro `all_rows(X, weight, rows, num_rows)`: X `(1, s, K)` -> `ByteRows`, for products whose
    weights have that `offset`.

    With `epsilon` the rows are X / sqrt(mean(X^2) + epsilon) * weight, with a weight `(K,)` of float32.
    Without it the weight is not read.
    """
    write = _group_macro(width, groups, offset, has_norm=epsilon is not None)
    norm = _norm_macro(width, groups, epsilon)

    @T.macro
    def row_of(X, weight, rows, row):
        with T.sblock("row"):
            T.reads()
            T.writes()
            normal = local((1,))
            if epsilon is not None:
                norm(X, normal, row)
            for group in T.serial(groups.count(width)):
                write(X, weight, normal, rows, row, group)

    @T.macro
    def all_rows(X, weight, rows, num_rows):
        if num_rows > FEW_ROWS:
            for row in T.parallel(num_rows):
                row_of(X, weight, rows, row)
        else:
            for row in T.serial(num_rows):
                row_of(X, weight, rows, row)

    return all_rows


def _group_macro(width: int, groups: GroupFormat, offset: int, *, has_norm: bool) -> Any:
    """The macro `write(X, weight, normal, rows, row, group)`: quantize a group of a row."""
    size = groups.group_size
    load = _load_macro(width, groups, has_norm=has_norm)

    @T.macro
    def round_values(values, rows, factor, row, group):
        with T.sblock("round"):
            T.reads()
            T.writes()
            sums = local((LANES,), "int32")
            steps = local((LANES,), "int32")
            for lane in T.vectorized(LANES):
                sums[lane] = 0
            for i in T.unroll(size // LANES):
                for lane in T.vectorized(LANES):
                    steps[lane] = T.Cast("int32", T.nearbyint(values[i, lane] * factor[0]))
                for lane in T.vectorized(LANES):
                    sums[lane] = sums[lane] + steps[lane]
                rows.words[0, row, vector(group * (size // 4) + i * (LANES // 4), LANES // 4)] = (
                    T.reinterpret("int32x4", T.Cast("int8x16", steps[vector(0)]))
                )
            rows.starts[0, row, group] = T.int32(-offset) * T.call_llvm_pure_intrin(
                "int32", "llvm.vector.reduce.add", sums[vector(0)]
            )

    @T.macro
    def write(X, weight, normal, rows, row, group):
        with T.sblock("group"):
            T.reads()
            T.writes()
            values = local((size // LANES, LANES))
            peaks = local((LANES,), "int32")
            scale = local((1,))
            for lane in T.vectorized(LANES):
                peaks[lane] = 0
            load(X, weight, normal, values, peaks, row, group)
            scale[0] = T.reinterpret(
                "float32",
                T.call_llvm_pure_intrin("int32", "llvm.vector.reduce.smax", peaks[vector(0)]),
            )
            rows.scales[0, row, group] = scale[0] * T.float32(1 / _STEPS)
            # The lower bound prevents a division by zero in a group of zeros.
            scale[0] = T.float32(_STEPS) / T.max(scale[0], T.float32(1e-30))
            round_values(values, rows, scale, row, group)

    return write


def _load_macro(width: int, groups: GroupFormat, *, has_norm: bool) -> Any:
    """The macro `load(X, weight, normal, values, peaks, row, group)`: load a group's values as float32,
    normalise them, and find the greatest magnitude in each lane.
    """
    size = groups.group_size
    is_whole = groups.padded(width) == width

    def weight_of(weight: Any, k: Any) -> Any:
        return weight[k] if is_whole else weight[tirx.min(k, tirx.const(width - 1, "int64"))]

    @T.macro
    def load(X, weight, normal, values, peaks, row, group):
        for i in T.unroll(size // LANES):
            for lane in T.vectorized(LANES):
                values[i, lane] = _value(X, row, T.int64(group * size + i * LANES) + lane, width, is_whole)
            if has_norm:
                for lane in T.vectorized(LANES):
                    values[i, lane] = (
                        values[i, lane]
                        * normal[0]
                        * weight_of(weight, T.int64(group * size + i * LANES) + lane)
                    )
            for lane in T.vectorized(LANES):
                peaks[lane] = T.max(
                    peaks[lane],
                    T.bitwise_and(T.reinterpret("int32", values[i, lane]), T.int32(_ABSOLUTE)),
                )

    return load


def _norm_macro(width: int, groups: GroupFormat, epsilon: float | None) -> Any:
    """The macro `norm(X, normal, row)`: find the factor by which RMS normalization scales a row."""
    padded = groups.padded(width)
    is_whole = padded == width

    @T.macro
    def norm(X, normal, row):
        with T.sblock("norm"):
            T.reads()
            T.writes()
            squares = local((LANES,))
            for lane in T.vectorized(LANES):
                squares[lane] = T.float32(0)
            for i in T.serial(padded // LANES):
                for lane in T.vectorized(LANES):
                    squares[lane] = squares[lane] + _value(
                        X, row, T.int64(i * LANES) + lane, width, is_whole
                    ) * _value(X, row, T.int64(i * LANES) + lane, width, is_whole)
            normal[0] = T.float32(0)
            for lane in T.unroll(LANES):
                normal[0] = normal[0] + squares[lane]
            normal[0] = T.float32(1) / T.sqrt(normal[0] / T.float32(width) + T.float32(epsilon))

    return norm


def _value(X: Any, row: Any, k: Any, width: int, is_whole: bool) -> Any:
    """Element k of a row as float32; zero beyond the row, where the last group is padded."""
    if is_whole:
        return tirx.Cast("float32", X[0, row, k])
    inside = tirx.Cast("float32", X[0, row, tirx.min(k, tirx.const(width - 1, "int64"))])
    return tirx.if_then_else(k < width, inside, tirx.const(0.0, "float32"))

"""Rounds activations to bytes: 127 steps on either side of zero, with a scale for each group of a row.

The groups are those of the weights that the row will be multiplied by. The results are words of four bytes,
scales, and the numbers that the integer sums of `integer_matmul` start from to cancel the weights' offset:
minus the offset times the sum of the group's bytes. Rows can be normalised in the same pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.primitives.each_row import each_row_macro
from mlc_serve.compiler.kernels.cpu.primitives.lanes import lanes
from mlc_serve.compiler.kernels.cpu.primitives.normal import normal_macro
from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local
from mlc_serve.compiler.kernels.cpu.primitives.vector import vector
from mlc_serve.models.parts.norm import Norm
from mlc_serve.quantization.scheme import GroupFormat

_STEPS = 127
_ABSOLUTE = 0x7FFFFFFF  # all bits of a float but the sign: positive floats compare as integers do


class ByteRows(NamedTuple):
    """Rows as bytes, where Kp is their width in whole groups and G the number of groups."""

    words: Any  # (1, s, Kp / 4) int32, four activations each
    scales: Any  # (1, s, G) float32
    starts: Any  # (1, s, G) int32: what integer sums start from


class NormWeights(NamedTuple):
    """The float32 weight and bias `(K,)` of a norm. What it does not read may be any buffer."""

    weight: Any
    bias: Any


class _Rows(NamedTuple):
    """What the macros here work on."""

    x: Any  # (1, s, K)
    norm: NormWeights
    bytes: ByteRows


@dataclass(frozen=True)
class _PaddedRow:
    """Implements NormalRow for a row that is padded to whole groups."""

    buffer: Any
    row: Any
    width: int
    is_whole: bool

    def at(self, k: Any) -> Any:
        return self.inside(k, tirx.Cast("float32", self.buffer[0, self.row, self.clamped(k)]))

    def distance(self, k: Any, mean: Any) -> Any:
        return self.inside(k, tirx.Cast("float32", self.buffer[0, self.row, self.clamped(k)]) - mean)

    def clamped(self, k: Any) -> Any:
        """Index k, or the last one if k is beyond the row."""
        return k if self.is_whole else tirx.min(k, tirx.const(self.width - 1, "int64"))

    def inside(self, k: Any, value: Any) -> Any:
        """The value for index k, or zero if k is beyond the row."""
        return (
            value if self.is_whole else tirx.if_then_else(k < self.width, value, tirx.const(0.0, "float32"))
        )


def quantize_macro(width: int, groups: GroupFormat, offset: int, norm: Norm | None = None) -> Any:
    """The macro `all_rows(X, norm_weights, rows, num_rows)`: X `(1, s, K)` -> `ByteRows`, for products whose
    weights have that `offset`. With `norm` the rows are normalised first; without it `NormWeights` are not
    read.
    """
    is_whole = groups.padded(width) == width
    write = _group_macro(groups, offset, norm)
    find = normal_macro(norm, groups.padded(width)) if norm is not None else None

    @T.macro
    def row_of(operands, row):
        with T.sblock("row"):
            T.reads()
            T.writes()
            normal = local((2,))
            if norm is not None:
                find(_PaddedRow(operands.x, row, width, is_whole), normal)
            for group in T.serial(groups.count(width)):
                write(operands, _PaddedRow(operands.x, row, width, is_whole), normal, group)

    each_row = each_row_macro(row_of)

    @T.macro
    def all_rows(X, weights, rows, num_rows):
        each_row(_Rows(X, weights, rows), num_rows)

    return all_rows


def _group_macro(groups: GroupFormat, offset: int, norm: Norm | None) -> Any:
    """The macro `write(operands, source, normal, group)`: quantize a group of a `_PaddedRow`."""
    size, step = groups.group_size, lanes(groups.group_size)
    load = _load_macro(groups, norm)

    @T.macro
    def round_values(values, rows, factor, row, group):
        with T.sblock("round"):
            T.reads()
            T.writes()
            sums = local((step,), "int32")
            steps = local((step,), "int32")
            for lane in T.vectorized(step):
                sums[lane] = 0
            for i in T.unroll(size // step):
                for lane in T.vectorized(step):
                    steps[lane] = T.Cast("int32", T.nearbyint(values[i, lane] * factor[0]))
                for lane in T.vectorized(step):
                    sums[lane] = sums[lane] + steps[lane]
                rows.words[0, row, vector(group * (size // 4) + i * (step // 4), step // 4)] = T.reinterpret(
                    f"int32x{step // 4}", T.Cast(f"int8x{step}", steps[vector(0, step)])
                )
            rows.starts[0, row, group] = T.int32(-offset) * T.call_llvm_pure_intrin(
                "int32", "llvm.vector.reduce.add", sums[vector(0, step)]
            )

    @T.macro
    def write(operands, source, normal, group):
        with T.sblock("group"):
            T.reads()
            T.writes()
            values = local((size // step, step))
            peaks = local((step,), "int32")
            scale = local((1,))
            for lane in T.vectorized(step):
                peaks[lane] = 0
            load(operands.norm, source, normal, values, peaks, group)
            scale[0] = T.reinterpret(
                "float32",
                T.call_llvm_pure_intrin("int32", "llvm.vector.reduce.smax", peaks[vector(0, step)]),
            )
            operands.bytes.scales[0, source.row, group] = scale[0] * T.float32(1 / _STEPS)
            # The lower bound prevents a division by zero in a group of zeros.
            scale[0] = T.float32(_STEPS) / T.max(scale[0], T.float32(1e-30))
            round_values(values, operands.bytes, scale, source.row, group)

    return write


def _load_macro(groups: GroupFormat, norm: Norm | None) -> Any:
    """The macro `load(norm_weights, source, normal, values, peaks, group)`: load a group's values as float32,
    normalise them, and find the greatest magnitude in each lane.
    """
    size, step = groups.group_size, lanes(groups.group_size)

    def value(weights: NormWeights, source: _PaddedRow, normal: Any, k: Any) -> Any:
        if norm is None:
            return source.at(k)
        centred = source.distance(k, normal[1]) if norm.kind == "layer" else source.at(k)
        return centred * normal[0] * weights.weight[source.clamped(k)]

    def shifted(weights: NormWeights, source: _PaddedRow, value: Any, k: Any) -> Any:
        return source.inside(k, value + weights.bias[source.clamped(k)])

    @T.macro
    def load(weights, source, normal, values, peaks, group):
        for i in T.unroll(size // step):
            for lane in T.vectorized(step):
                values[i, lane] = value(weights, source, normal, T.int64(group * size + i * step) + lane)
            if norm is not None and norm.bias:
                for lane in T.vectorized(step):
                    values[i, lane] = shifted(
                        weights, source, values[i, lane], T.int64(group * size + i * step) + lane
                    )
            for lane in T.vectorized(step):
                peaks[lane] = T.max(
                    peaks[lane],
                    T.bitwise_and(T.reinterpret("int32", values[i, lane]), T.int32(_ABSOLUTE)),
                )

    return load

"""The gates at the ends of layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.primitives.each_row import each_row_macro
from mlc_serve.compiler.kernels.cpu.primitives.exponential import sigmoid
from mlc_serve.compiler.kernels.cpu.primitives.lanes import lanes
from mlc_serve.compiler.kernels.cpu.primitives.normal import normal_macro
from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local
from mlc_serve.models.parts.norm import Norm


class _NormOperands(NamedTuple):
    x: Any
    gate: Any
    weight: Any
    bias: Any
    y: Any


class _GateOperands(NamedTuple):
    residual: Any
    x: Any
    gate: Any
    y: Any


class GatedNorm(NamedTuple):
    """A norm of each of `num_heads` heads of a row, with one weight for all heads if it is `shared`, and a
    gate for each of its results. The gates are the last values of rows of `gate_width`.
    """

    norm: Norm
    num_heads: int
    shared: bool
    gate_width: int

    @property
    def width(self) -> int:
        """Values of a row."""
        return self.num_heads * self.norm.width

    @property
    def weight_width(self) -> int:
        """Values of the weight."""
        return self.norm.width if self.shared else self.width


@dataclass(frozen=True)
class _Head:
    """Implements NormalRow for a part of a row."""

    buffer: Any  # (1, n, width) float32
    row: Any
    first: Any

    def at(self, i: Any) -> Any:
        return self.buffer[0, self.row, self.first + i]

    def distance(self, i: Any, mean: Any) -> Any:
        return self.at(i) - mean


def gated_norm(shape: GatedNorm) -> tirx.PrimFunc:
    """X `(1, n, width)`; rows `(1, n, gate_width)`, whose last `width` values are gates; a weight, and a bias
    that may be any tensor if the norm has none, `(width,)`, or `(head_dim,)` if they are shared; all float32
    -> the norm of each head of X by itself, times SiLU(gate).
    """
    width, weight_width, has_bias = shape.width, shape.weight_width, shape.norm.bias
    each_row = each_row_macro(_norm_macro(shape))

    @T.prim_func(s_tir=True, private=True)
    def norm(x: T.handle, gate: T.handle, weight: T.handle, bias: T.handle, y: T.handle):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_rows = T.int64()
        X = T.match_buffer(x, (1, num_rows, width), "float32")
        G = T.match_buffer(gate, (1, num_rows, shape.gate_width), "float32")
        W = T.match_buffer(weight, (weight_width,), "float32")
        Y = T.match_buffer(y, (1, num_rows, width), "float32")
        if has_bias:
            B = T.match_buffer(bias, (weight_width,), "float32")
        with T.sblock("root"):
            each_row(_NormOperands(X, G, W, B if has_bias else W, Y), num_rows)

    return norm


def gated(width: int, dtype: str) -> tirx.PrimFunc:
    """X `(1, n, width)` of `dtype`, gates of the same shape -> sigmoid(gate) * X, both float32."""
    each_row = each_row_macro(_gate_macro(width, adds=False))

    @T.prim_func(s_tir=True, private=True)
    def multiply(x: T.handle, gate: T.handle, y: T.handle):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_rows = T.int64()
        X = T.match_buffer(x, (1, num_rows, width), dtype)
        G = T.match_buffer(gate, (1, num_rows, width), "float32")
        Y = T.match_buffer(y, (1, num_rows, width), "float32")
        with T.sblock("root"):
            each_row(_GateOperands(X, X, G, Y), num_rows)

    return multiply


def add_gated(width: int) -> tirx.PrimFunc:
    """The residual, X and gates, all `(1, n, width)` float32 -> residual + sigmoid(gate) * X."""
    each_row = each_row_macro(_gate_macro(width, adds=True))

    @T.prim_func(s_tir=True, private=True)
    def add(residual: T.handle, x: T.handle, gate: T.handle, y: T.handle):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_rows = T.int64()
        R = T.match_buffer(residual, (1, num_rows, width), "float32")
        X = T.match_buffer(x, (1, num_rows, width), "float32")
        G = T.match_buffer(gate, (1, num_rows, width), "float32")
        Y = T.match_buffer(y, (1, num_rows, width), "float32")
        with T.sblock("root"):
            each_row(_GateOperands(R, X, G, Y), num_rows)

    return add


def _norm_macro(shape: GatedNorm) -> Any:
    """The macro `row_of(operands, row)`."""
    head_dim, step = shape.norm.width, lanes(shape.norm.width)
    find = normal_macro(shape.norm)

    def normalized(operands: _NormOperands, normal: Any, row: Any, head: Any, i: Any) -> Any:
        value, place = operands.x[0, row, head * head_dim + i], i if shape.shared else head * head_dim + i
        if shape.norm.kind == "layer":
            value = value - normal[1]
        value = value * normal[0] * operands.weight[place]
        return value + operands.bias[place] if shape.norm.bias else value

    def silu_of_gate(operands: _NormOperands, row: Any, i: Any) -> Any:
        gate = operands.gate[0, row, shape.gate_width - shape.width + i]
        return gate * sigmoid(gate)

    @T.macro
    def row_of(operands, row):
        for head in T.serial(shape.num_heads):
            with T.sblock("head"):
                T.reads()
                T.writes()
                normal = local((2,))
                find(_Head(operands.x, row, head * head_dim), normal)
                for i in T.serial(head_dim // step):
                    for lane in T.vectorized(step):
                        operands.y[0, row, head * head_dim + i * step + lane] = normalized(
                            operands, normal, row, head, i * step + lane
                        ) * silu_of_gate(operands, row, head * head_dim + i * step + lane)

    return row_of


def _gate_macro(width: int, *, adds: bool) -> Any:
    """The macro `row_of(operands, row)`, which adds the residual or not."""
    step = lanes(width)

    def result(operands: _GateOperands, row: Any, i: Any) -> Any:
        value = sigmoid(operands.gate[0, row, i]) * T.Cast("float32", operands.x[0, row, i])
        return operands.residual[0, row, i] + value if adds else value

    @T.macro
    def row_of(operands, row):
        for i in T.serial(width // step):
            for lane in T.vectorized(step):
                operands.y[0, row, i * step + lane] = result(operands, row, i * step + lane)

    return row_of

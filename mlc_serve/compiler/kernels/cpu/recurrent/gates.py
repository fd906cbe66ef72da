"""The gates at the ends of RWKV's time mix and channel mix."""

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


def gated_group_norm(num_heads: int, head_dim: int, epsilon: float) -> tirx.PrimFunc:
    """X and gates `(1, n, width)`, weight and bias `(width,)` -> the layer normalization of each head of X by
    itself, times SiLU(gate); all float32.
    """
    width = num_heads * head_dim
    each_row = each_row_macro(_norm_macro(num_heads, head_dim, epsilon))

    @T.prim_func(s_tir=True, private=True)
    def norm(x: T.handle, gate: T.handle, weight: T.handle, bias: T.handle, y: T.handle):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_rows = T.int64()
        X = T.match_buffer(x, (1, num_rows, width), "float32")
        G = T.match_buffer(gate, (1, num_rows, width), "float32")
        W = T.match_buffer(weight, (width,), "float32")
        B = T.match_buffer(bias, (width,), "float32")
        Y = T.match_buffer(y, (1, num_rows, width), "float32")
        with T.sblock("root"):
            each_row(_NormOperands(X, G, W, B, Y), num_rows)

    return norm


def add_gated(width: int) -> tirx.PrimFunc:
    """The residual, X and gates, all `(1, n, width)` float32 -> residual + sigmoid(gate) * X."""
    each_row = each_row_macro(_gate_macro(width))

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


def _norm_macro(num_heads: int, head_dim: int, epsilon: float) -> Any:
    """The macro `row_of(operands, row)`."""
    step = lanes(head_dim)
    find = normal_macro(Norm("layer", head_dim, epsilon))

    @T.macro
    def write(operands, normal, row, first):
        for lane in T.vectorized(step):
            operands.y[0, row, first + lane] = (
                (
                    (operands.x[0, row, first + lane] - normal[1]) * normal[0] * operands.weight[first + lane]
                    + operands.bias[first + lane]
                )
                * operands.gate[0, row, first + lane]
                * sigmoid(operands.gate[0, row, first + lane])
            )

    @T.macro
    def row_of(operands, row):
        for head in T.serial(num_heads):
            with T.sblock("head"):
                T.reads()
                T.writes()
                normal = local((2,))
                find(_Head(operands.x, row, head * head_dim), normal)
                for i in T.serial(head_dim // step):
                    write(operands, normal, row, head * head_dim + i * step)

    return row_of


def _gate_macro(width: int) -> Any:
    """The macro `row_of(operands, row)`."""
    step = lanes(width)

    @T.macro
    def row_of(operands, row):
        for i in T.serial(width // step):
            for lane in T.vectorized(step):
                operands.y[0, row, i * step + lane] = (
                    operands.residual[0, row, i * step + lane]
                    + sigmoid(operands.gate[0, row, i * step + lane]) * operands.x[0, row, i * step + lane]
                )

    return row_of

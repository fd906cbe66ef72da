"""Normalization of rows. A row is one task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.primitives.each_row import each_row_macro
from mlc_serve.compiler.kernels.cpu.primitives.lanes import lanes
from mlc_serve.compiler.kernels.cpu.primitives.normal import normal_macro
from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local
from mlc_serve.models.parts.norm import Norm

# What a residual is added to: the rows before they are normalised, or the normalised rows.
Addition = Literal["none", "input", "result"]


@dataclass(frozen=True)
class _Row:
    """Implements NormalRow."""

    buffer: Any  # (1, s, K) float32
    row: Any

    def at(self, i: Any) -> Any:
        return self.buffer[0, self.row, i]

    def distance(self, i: Any, mean: Any) -> Any:
        return self.at(i) - mean


class _Operands(NamedTuple):
    x: Any
    residual: Any
    weight: Any
    bias: Any
    y: Any


def norm(spec: Norm, addition: Addition = "none") -> tirx.PrimFunc:
    """X and R `(1, s, K)`, weight and bias `(K,)` -> Y `(1, s, K)`, all float32: the norm of X, the norm of
    X + R ("input"), or R plus the norm of X ("result"). What is not read may be any tensor.
    """
    each_row = each_row_macro(_row_macro(spec, addition))
    width, has_bias, adds = spec.width, spec.bias, addition != "none"

    @T.prim_func(s_tir=True, private=True)
    def norm(x: T.handle, residual: T.handle, weight: T.handle, bias: T.handle, y: T.handle):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_rows = T.int64()
        X = T.match_buffer(x, (1, num_rows, width), "float32")
        W = T.match_buffer(weight, (width,), "float32")
        Y = T.match_buffer(y, (1, num_rows, width), "float32")
        if adds:
            R = T.match_buffer(residual, (1, num_rows, width), "float32")
        if has_bias:
            B = T.match_buffer(bias, (width,), "float32")
        with T.sblock("root"):
            each_row(_Operands(X, R if adds else X, W, B if has_bias else W, Y), num_rows)

    return norm


def _row_macro(spec: Norm, addition: Addition) -> Any:
    """The macro `row_of(operands, row)`."""
    step = lanes(spec.width)
    find = normal_macro(spec)

    def result(operands: _Operands, source: Any, normal: Any, row: Any, i: Any) -> Any:
        value = source[0, row, i]
        if spec.kind == "layer":
            value = value - normal[1]
        value = value * normal[0] * operands.weight[i]
        if spec.bias:
            value = value + operands.bias[i]
        return value + operands.residual[0, row, i] if addition == "result" else value

    @T.macro
    def write(operands, source, row):
        with T.sblock("write"):
            T.reads()
            T.writes()
            normal = local((2,))
            find(_Row(source, row), normal)
            for i in T.serial(spec.width // step):
                for lane in T.vectorized(step):
                    operands.y[0, row, i * step + lane] = result(
                        operands, source, normal, row, i * step + lane
                    )

    @T.macro
    def row_of(operands, row):
        with T.sblock("row"):
            T.reads()
            T.writes()
            if addition == "input":
                for i in T.serial(spec.width // step):
                    for lane in T.vectorized(step):
                        operands.y[0, row, i * step + lane] = (
                            operands.x[0, row, i * step + lane] + operands.residual[0, row, i * step + lane]
                        )
                write(operands, operands.y, row)
            else:
                write(operands, operands.x, row)

    return row_of

"""Convolutions over the last few tokens: each value of a token is mixed with the same value of the tokens
before it. Sequences are as in `token_shift`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.primitives.each_row import each_row_macro
from mlc_serve.compiler.kernels.cpu.primitives.exponential import sigmoid
from mlc_serve.compiler.kernels.cpu.primitives.lanes import lanes
from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local


class Convolution(NamedTuple):
    """A convolution of `width` values over `taps` tokens. It takes the first ones of the `row_width` values
    of a row, and its result is passed through SiLU; or if it `is_gated`, a row is B, C and V side by side, it
    takes B * V, and its result is multiplied by C.
    """

    width: int
    row_width: int
    taps: int
    has_bias: bool
    is_gated: bool


class _Operands(NamedTuple):
    x: Any  # (1, n, row_width)
    weight: Any  # (width, 1, taps)
    bias: Any  # (width,), or any tensor if there is no bias
    state: Any  # (b, taps - 1, width)
    y: Any  # (1, n, width)
    new: Any  # (b, taps - 1, width)
    length: Any  # rows of each sequence


def causal_conv(shape: Convolution) -> tirx.PrimFunc:
    """X `(1, n, row_width)`; W `(width, 1, taps)`; a bias `(width,)`, or any tensor if there is none; the
    last values that each sequence's convolution took, oldest first `(b, taps - 1, width)`, all float32
    -> the sum of W[tap] * (the value of the token that is taps - 1 - tap before) + bias, activated or gated,
    `(1, n, width)`, and the new last values.
    """
    width, taps, has_bias = shape.width, shape.taps, shape.has_bias
    each_row = each_row_macro(_row_macro(shape))
    each_sequence = each_row_macro(_state_macro(shape))

    @T.prim_func(s_tir=True, private=True)
    def convolution(
        x: T.handle, weight: T.handle, bias: T.handle, state: T.handle, y: T.handle, new: T.handle
    ):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_rows, batch = T.int64(), T.int64()
        X = T.match_buffer(x, (1, num_rows, shape.row_width), "float32")
        W = T.match_buffer(weight, (width, 1, taps), "float32")
        S = T.match_buffer(state, (batch, taps - 1, width), "float32")
        Y = T.match_buffer(y, (1, num_rows, width), "float32")
        N = T.match_buffer(new, (batch, taps - 1, width), "float32")
        if has_bias:
            B = T.match_buffer(bias, (width,), "float32")
        with T.sblock("root"):
            each_row(_Operands(X, W, B if has_bias else W, S, Y, N, num_rows // batch), num_rows)
            each_sequence(_Operands(X, W, W, S, Y, N, num_rows // batch), batch)

    return convolution


def _value_macro(shape: Convolution) -> Any:
    """The macro `read(operands, b, t, first, value)`: value becomes the vector from `first` of what the
    convolution takes of token t of sequence b. Tokens before the first one are in the state.
    """
    width, taps, step = shape.width, shape.taps, lanes(shape.width)

    def taken(operands: _Operands, row: Any, i: Any) -> Any:
        value = operands.x[0, row, i]
        return value * operands.x[0, row, 2 * width + i] if shape.is_gated else value

    @T.macro
    def read(operands, b, t, first, value):
        if t < 0:
            for lane in T.vectorized(step):
                value[lane] = operands.state[b, taps - 1 + t, first + lane]
        else:
            for lane in T.vectorized(step):
                value[lane] = taken(operands, b * operands.length + t, first + lane)

    return read


def _row_macro(shape: Convolution) -> Any:
    """The macro `row_of(operands, row)`."""
    width, taps, step = shape.width, shape.taps, lanes(shape.width)
    read = _value_macro(shape)

    def start(operands: _Operands, i: Any) -> Any:
        return operands.bias[i] if shape.has_bias else T.float32(0)

    def result(operands: _Operands, row: Any, i: Any, total: Any) -> Any:
        return total * (operands.x[0, row, width + i] if shape.is_gated else sigmoid(total))

    @T.macro
    def add_tap(operands, row, tap, first, value, total):
        read(operands, row // operands.length, row % operands.length - (taps - 1 - tap), first, value)
        for lane in T.vectorized(step):
            total[lane] = total[lane] + value[lane] * operands.weight[first + lane, 0, tap]

    @T.macro
    def row_of(operands, row):
        with T.sblock("row"):
            T.reads()
            T.writes()
            value = local((step,))
            total = local((step,))
            for i in T.serial(width // step):
                for lane in T.vectorized(step):
                    total[lane] = start(operands, i * step + lane)
                for tap in T.unroll(taps):
                    add_tap(operands, row, tap, i * step, value, total)
                for lane in T.vectorized(step):
                    operands.y[0, row, i * step + lane] = result(operands, row, i * step + lane, total[lane])

    return row_of


def _state_macro(shape: Convolution) -> Any:
    """The macro `state_of(operands, b)`: write the last values of sequence b."""
    step, read = lanes(shape.width), _value_macro(shape)

    @T.macro
    def state_of(operands, b):
        with T.sblock("state"):
            T.reads()
            T.writes()
            value = local((step,))
            for i in T.serial(shape.width // step):
                for place in T.unroll(shape.taps - 1):
                    read(operands, b, operands.length - (shape.taps - 1) + place, i * step, value)
                    for lane in T.vectorized(step):
                        operands.new[b, place, i * step + lane] = value[lane]

    return state_of

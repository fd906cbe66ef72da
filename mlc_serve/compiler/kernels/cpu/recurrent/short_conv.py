"""The gated short convolution of LFM2: each value of a token is mixed with the same value of the few tokens
before it. Sequences are as in `token_shift`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.primitives.each_row import each_row_macro
from mlc_serve.compiler.kernels.cpu.primitives.lanes import lanes
from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local


class _Operands(NamedTuple):
    x: Any  # (1, n, 3 * width)
    weight: Any  # (width, 1, taps)
    bias: Any  # (width,), or any tensor if there is no bias
    state: Any  # (b, taps - 1, width)
    y: Any  # (1, n, width)
    new: Any  # (b, taps - 1, width)
    length: Any  # rows of each sequence


def short_conv(width: int, taps: int, *, has_bias: bool) -> tirx.PrimFunc:
    """X `(1, n, 3 * width)`, which is B, C and V side by side; W `(width, 1, taps)`; a bias `(width,)`, which may
    be any tensor if there is none; the last values of B * V of each sequence, oldest first
    `(b, taps - 1, width)`, all float32
    -> C * (the sum of W[tap] * (B * V) of the token that is taps - 1 - tap before + bias) `(1, n, width)`, and
    the new last values.
    """
    each_row = each_row_macro(_row_macro(width, taps, has_bias))
    each_sequence = each_row_macro(_state_macro(width, taps))

    @T.prim_func(s_tir=True, private=True)
    def convolution(
        x: T.handle, weight: T.handle, bias: T.handle, state: T.handle, y: T.handle, new: T.handle
    ):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_rows, batch = T.int64(), T.int64()
        X = T.match_buffer(x, (1, num_rows, 3 * width), "float32")
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


def _value_macro(width: int, taps: int) -> Any:
    """The macro `read(operands, b, t, i, step, value)`: value becomes the vector at i of B * V of token t of
    sequence b. Tokens before the first one are in the state.
    """

    @T.macro
    def read(operands, b, t, i, step, value):
        if t < 0:
            for lane in T.vectorized(step):
                value[lane] = operands.state[b, taps - 1 + t, i + lane]
        else:
            for lane in T.vectorized(step):
                value[lane] = (
                    operands.x[0, b * operands.length + t, i + lane]
                    * operands.x[0, b * operands.length + t, 2 * width + i + lane]
                )

    return read


def _row_macro(width: int, taps: int, has_bias: bool) -> Any:
    """The macro `row_of(operands, row)`."""
    step = lanes(width)
    read = _value_macro(width, taps)

    def start(operands: _Operands, i: Any) -> Any:
        return operands.bias[i] if has_bias else T.float32(0)

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
                    read(
                        operands,
                        row // operands.length,
                        row % operands.length - (taps - 1 - tap),
                        i * step,
                        step,
                        value,
                    )
                    for lane in T.vectorized(step):
                        total[lane] = total[lane] + value[lane] * operands.weight[i * step + lane, 0, tap]
                for lane in T.vectorized(step):
                    operands.y[0, row, i * step + lane] = (
                        total[lane] * operands.x[0, row, width + i * step + lane]
                    )

    return row_of


def _state_macro(width: int, taps: int) -> Any:
    """The macro `state_of(operands, b)`: write the last values of sequence b."""
    step = lanes(width)
    read = _value_macro(width, taps)

    @T.macro
    def state_of(operands, b):
        with T.sblock("state"):
            T.reads()
            T.writes()
            value = local((step,))
            for i in T.serial(width // step):
                for place in T.unroll(taps - 1):
                    read(operands, b, operands.length - (taps - 1) + place, i * step, step, value)
                    for lane in T.vectorized(step):
                        operands.new[b, place, i * step + lane] = value[lane]

    return state_of

"""Mixes each token with the one before it.

Of b sequences, a batch of n rows has n / b tokens each. What comes before a sequence's first token is in its
state: the last row of the forward pass before.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.primitives.each_row import each_row_macro
from mlc_serve.compiler.kernels.cpu.primitives.lanes import lanes
from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local


class _Operands(NamedTuple):
    x: Any  # (1, n, width)
    last: Any  # (b, width)
    share: Any  # (1, 1, width)
    changes: Any  # (1, n, parts * width), or any tensor where shares don't change
    y: Any  # (1, n, width)
    length: Any  # rows of each sequence


def token_mix(width: int) -> tirx.PrimFunc:
    """X `(1, n, width)`, the rows before the sequences `(b, width)`, M `(1, 1, width)`, all float32
    -> X + (the row before - X) * M.
    """
    each_row = each_row_macro(_row_macro(width, None))

    @T.prim_func(s_tir=True, private=True)
    def mix(x: T.handle, last: T.handle, share: T.handle, y: T.handle):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_rows, batch = T.int64(), T.int64()
        X = T.match_buffer(x, (1, num_rows, width), "float32")
        L = T.match_buffer(last, (batch, width), "float32")
        M = T.match_buffer(share, (1, 1, width), "float32")
        Y = T.match_buffer(y, (1, num_rows, width), "float32")
        with T.sblock("root"):
            each_row(_Operands(X, L, M, X, Y, num_rows // batch), num_rows)

    return mix


def dynamic_token_mix(width: int, num_parts: int, number: int) -> tirx.PrimFunc:
    """Like `token_mix`, with M plus part `number` of the changes `(1, n, num_parts * width)`."""
    each_row = each_row_macro(_row_macro(width, number * width))

    @T.prim_func(s_tir=True, private=True)
    def mix(x: T.handle, last: T.handle, share: T.handle, changes: T.handle, y: T.handle):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_rows, batch = T.int64(), T.int64()
        X = T.match_buffer(x, (1, num_rows, width), "float32")
        L = T.match_buffer(last, (batch, width), "float32")
        M = T.match_buffer(share, (1, 1, width), "float32")
        C = T.match_buffer(changes, (1, num_rows, num_parts * width), "float32")
        Y = T.match_buffer(y, (1, num_rows, width), "float32")
        with T.sblock("root"):
            each_row(_Operands(X, L, M, C, Y, num_rows // batch), num_rows)

    return mix


def last_rows(width: int) -> tirx.PrimFunc:
    """X `(1, n, width)`, the rows before the sequences `(b, width)` -> the last row of each sequence
    `(b, width)`, all float32.
    """
    step = lanes(width)

    @T.prim_func(s_tir=True, private=True)
    def last(x: T.handle, before: T.handle, y: T.handle):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_rows, batch = T.int64(), T.int64()
        X = T.match_buffer(x, (1, num_rows, width), "float32")
        T.match_buffer(before, (batch, width), "float32")
        Y = T.match_buffer(y, (batch, width), "float32")
        with T.sblock("root"):
            for b in T.serial(batch):
                for i in T.serial(width // step):
                    for lane in T.vectorized(step):
                        Y[b, i * step + lane] = X[0, (b + 1) * (num_rows // batch) - 1, i * step + lane]

    return last


def _row_macro(width: int, first_change: int | None) -> Any:
    """The macro `row_of(operands, row)`. A row's shares change by the values from `first_change`, or not."""
    step = lanes(width)

    def share(operands: _Operands, row: Any, i: Any) -> Any:
        fixed = operands.share[0, 0, i]
        return fixed if first_change is None else fixed + operands.changes[0, row, first_change + i]

    @T.macro
    def row_of(operands, row):
        with T.sblock("row"):
            T.reads()
            T.writes()
            before = local((step,))
            for i in T.serial(width // step):
                if row % operands.length == 0:
                    for lane in T.vectorized(step):
                        before[lane] = operands.last[row // operands.length, i * step + lane]
                else:
                    for lane in T.vectorized(step):
                        before[lane] = operands.x[0, row - 1, i * step + lane]
                for lane in T.vectorized(step):
                    operands.y[0, row, i * step + lane] = operands.x[0, row, i * step + lane] + (
                        before[lane] - operands.x[0, row, i * step + lane]
                    ) * share(operands, row, i * step + lane)

    return row_of

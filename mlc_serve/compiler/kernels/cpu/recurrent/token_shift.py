"""Mixes each token with the one before it. A row is one task.

Of b sequences, a batch of n rows has n / b tokens each. What comes before a sequence's first token is in its
state: the last row of the forward pass before.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.primitives.lanes import lanes
from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local


def token_mix(width: int) -> tirx.PrimFunc:
    """X `(1, n, width)`, the rows before `(b, width)`, M `(1, 1, width)` -> X + (before - X) * M."""
    step = lanes(width)
    before = _before_macro(step)

    @T.prim_func(s_tir=True, private=True)
    def mix(x: T.handle, last: T.handle, share: T.handle, y: T.handle):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_rows, batch = T.int64(), T.int64()
        X = T.match_buffer(x, (1, num_rows, width), "float32")
        L = T.match_buffer(last, (batch, width), "float32")
        M = T.match_buffer(share, (1, 1, width), "float32")
        Y = T.match_buffer(y, (1, num_rows, width), "float32")
        with T.sblock("root"):
            for row in T.parallel(num_rows):
                with T.sblock("row"):
                    T.reads()
                    T.writes()
                    moved = local((step,))
                    for i in T.serial(width // step):
                        before(X, L, row, num_rows // batch, i, moved)
                        for lane in T.vectorized(step):
                            Y[0, row, i * step + lane] = (
                                X[0, row, i * step + lane]
                                + (moved[lane] - X[0, row, i * step + lane]) * M[0, 0, i * step + lane]
                            )

    return mix


def dynamic_token_mix(width: int, num_mixes: int, place: int) -> tirx.PrimFunc:
    """Like `token_mix` with M plus number `place` of the `num_mixes` parts of D `(1, n, num_mixes * width)`,
    which depend on the token.
    """
    step = lanes(width)
    before = _before_macro(step)

    @T.prim_func(s_tir=True, private=True)
    def mix(x: T.handle, last: T.handle, share: T.handle, dynamic: T.handle, y: T.handle):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_rows, batch = T.int64(), T.int64()
        X = T.match_buffer(x, (1, num_rows, width), "float32")
        L = T.match_buffer(last, (batch, width), "float32")
        M = T.match_buffer(share, (1, 1, width), "float32")
        D = T.match_buffer(dynamic, (1, num_rows, num_mixes * width), "float32")
        Y = T.match_buffer(y, (1, num_rows, width), "float32")
        with T.sblock("root"):
            for row in T.parallel(num_rows):
                with T.sblock("row"):
                    T.reads()
                    T.writes()
                    moved = local((step,))
                    for i in T.serial(width // step):
                        before(X, L, row, num_rows // batch, i, moved)
                        for lane in T.vectorized(step):
                            Y[0, row, i * step + lane] = X[0, row, i * step + lane] + (
                                moved[lane] - X[0, row, i * step + lane]
                            ) * (M[0, 0, i * step + lane] + D[0, row, place * width + i * step + lane])

    return mix


def last_rows(width: int) -> tirx.PrimFunc:
    """X `(1, n, width)`, the rows before `(b, width)` -> the last row of each sequence `(b, width)`."""
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


def _before_macro(step: int) -> Any:
    """The macro `before(X, L, row, length, i, moved)`: moved becomes vector i of the row before `row`, where
    each sequence has `length` rows.
    """

    @T.macro
    def before(X, L, row, length, i, moved):
        if row % length == 0:
            for lane in T.vectorized(step):
                moved[lane] = L[row // length, i * step + lane]
        else:
            for lane in T.vectorized(step):
                moved[lane] = X[0, row - 1, i * step + lane]

    return before

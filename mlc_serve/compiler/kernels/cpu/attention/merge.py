"""Merges two attention results over different keys into the result over the keys of both."""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.primitives.exponential import exp2
from mlc_serve.compiler.kernels.cpu.primitives.lanes import lanes
from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local
from mlc_serve.compiler.kernels.cpu.primitives.thread_cost import VALUES_PER_WAKING

_SERIAL_HEADS = VALUES_PER_WAKING // 128  # merging a head costs as much as rotating 128 values


def merge_attention(num_heads: int, head_dim: int, dtype: str) -> tirx.PrimFunc:
    """Merge another result into an output `(s, h, d)` of `dtype` and its log2 weights `(s, h)` of float32, in
    place: they become those over the keys of both.
    """
    merge_row = _merge_row_macro(num_heads, head_dim, dtype)

    @T.prim_func(s_tir=True, private=True)
    def merge(v: T.handle, s: T.handle, v_other: T.handle, s_other: T.handle):
        T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True})
        num_rows = T.int32()
        V = T.match_buffer(v, (num_rows, num_heads, head_dim), dtype)
        S = T.match_buffer(s, (num_rows, num_heads), "float32")
        V_other = T.match_buffer(v_other, (num_rows, num_heads, head_dim), dtype)
        S_other = T.match_buffer(s_other, (num_rows, num_heads), "float32")
        if num_rows * num_heads <= _SERIAL_HEADS:
            for row in T.serial(num_rows):
                merge_row(V, S, V_other, S_other, row)
        else:
            for row in T.parallel(num_rows):
                merge_row(V, S, V_other, S_other, row)

    return merge


def _merge_row_macro(num_heads: int, head_dim: int, dtype: str) -> Any:
    """The macro `merge_row(V, S, V_other, S_other, row)`: merge all heads of a row."""
    step = lanes(head_dim)

    @T.macro
    def merge_row(V, S, V_other, S_other, row):
        for h in T.serial(num_heads):
            with T.sblock("head"):
                T.reads()
                T.writes()
                peak = local((1,))
                mine = local((1,))
                other = local((1,))
                peak[0] = T.max(S[row, h], S_other[row, h])
                mine[0] = exp2(S[row, h] - peak[0])
                other[0] = exp2(S_other[row, h] - peak[0])
                S[row, h] = T.log2(mine[0] + other[0]) + peak[0]
                mine[0] = mine[0] / (mine[0] + other[0])
                other[0] = T.float32(1) - mine[0]
                for i in T.serial(head_dim // step):
                    for lane in T.vectorized(step):
                        V[row, h, i * step + lane] = T.Cast(
                            dtype,
                            T.Cast("float32", V[row, h, i * step + lane]) * mine[0]
                            + T.Cast("float32", V_other[row, h, i * step + lane]) * other[0],
                        )

    return merge_row

"""Joining two attention results over different keys into the result over both."""

from __future__ import annotations

from tvm import tirx
from tvm.script import tirx as T


def merge_attention(num_heads: int, head_dim: int) -> tirx.PrimFunc:
    """V `(s, h, d)` and its log2 weights `(s, h)` become, in place, those over its and the other's keys."""

    @T.prim_func(s_tir=True, private=True)
    def merge(v: T.handle, s: T.handle, v_other: T.handle, s_other: T.handle):
        T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True})
        num_rows = T.int32()
        V = T.match_buffer(v, (num_rows, num_heads, head_dim), "float32")
        S = T.match_buffer(s, (num_rows, num_heads), "float32")
        V_other = T.match_buffer(v_other, (num_rows, num_heads, head_dim), "float32")
        S_other = T.match_buffer(s_other, (num_rows, num_heads), "float32")
        for row in T.parallel(num_rows):
            for h in T.serial(num_heads):
                with T.sblock("head"):
                    peak = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    mine = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    other = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    peak[0] = T.max(S[row, h], S_other[row, h])
                    mine[0] = T.exp2(S[row, h] - peak[0])
                    other[0] = T.exp2(S_other[row, h] - peak[0])
                    S[row, h] = T.log2(mine[0] + other[0]) + peak[0]
                    mine[0] = mine[0] / (mine[0] + other[0])
                    other[0] = T.float32(1) - mine[0]
                    for i in T.serial(head_dim):
                        V[row, h, i] = V[row, h, i] * mine[0] + V_other[row, h, i] * other[0]

    return merge

"""Rotary position embedding, fused with splitting the QKV product into its three parts."""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.relax.frontend.nn.llm.position_embedding import switch_rope_freq_func
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.lanes import lanes


def split_rotary(
    num_q_heads: int,
    num_kv_heads: int,
    head_dim: int,
    theta: float,
    scaling: dict[str, Any],
    position_scale: float,
) -> tirx.PrimFunc:
    """QKV `(s, hq + 2 hkv, d)`, positions `(s,)` -> rotated Q and K, and V.

    The sine and cosine of a position are computed once for all of its heads. `scaling` is TVM's description
    of how frequencies are scaled; `position_scale` multiplies positions (linear scaling).
    """
    half = head_dim // 2
    step = lanes(half)
    num_heads = num_q_heads + 2 * num_kv_heads
    frequencies = switch_rope_freq_func(scaling)

    def angle(position, i, which):
        values = frequencies(
            tirx.Cast("float32", position) * tirx.const(position_scale, "float32"),
            i,
            head_dim,
            theta,
            "float32",
        )
        expression = values[which]
        for variable, value in values[2].items():
            expression = tirx.Let(variable, value, expression)
        return expression

    @T.macro
    def rotate(QKV, out, s, source, head, cosines, sines):
        for i in T.serial(half // step):
            for lane in T.vectorized(step):
                out[s, head, i * step + lane] = (
                    QKV[s, source, i * step + lane] * cosines[i * step + lane]
                    - QKV[s, source, half + i * step + lane] * sines[i * step + lane]
                )
            for lane in T.vectorized(step):
                out[s, head, half + i * step + lane] = (
                    QKV[s, source, half + i * step + lane] * cosines[i * step + lane]
                    + QKV[s, source, i * step + lane] * sines[i * step + lane]
                )

    @T.prim_func(s_tir=True, private=True)
    def rotary(
        qkv: T.handle, position_map: T.handle, q: T.handle, k: T.handle, v: T.handle, apply_rope: T.int64
    ):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_rows = T.int32()
        positions_offset = T.int32()
        QKV = T.match_buffer(qkv, (num_rows, num_heads, head_dim), "float32")
        Q = T.match_buffer(q, (num_rows, num_q_heads, head_dim), "float32")
        K = T.match_buffer(k, (num_rows, num_kv_heads, head_dim), "float32")
        V = T.match_buffer(v, (num_rows, num_kv_heads, head_dim), "float32")
        positions = T.match_buffer(position_map, (num_rows,), "int32", elem_offset=positions_offset)
        for s in T.parallel(num_rows):
            with T.sblock("row"):
                cosines = T.sblock_alloc_buffer((half,), "float32", scope="local")
                sines = T.sblock_alloc_buffer((half,), "float32", scope="local")
                for i in T.serial(half):
                    cosines[i] = T.if_then_else(
                        apply_rope > T.int64(0), angle(positions[s], i, 0), T.float32(1)
                    )
                    sines[i] = T.if_then_else(
                        apply_rope > T.int64(0), angle(positions[s], i, 1), T.float32(0)
                    )
                for h in T.serial(num_q_heads):
                    rotate(QKV, Q, s, h, h, cosines, sines)
                for h in T.serial(num_kv_heads):
                    rotate(QKV, K, s, num_q_heads + h, h, cosines, sines)
                for h in T.serial(num_kv_heads):
                    for i in T.serial(head_dim // step):
                        for lane in T.vectorized(step):
                            V[s, h, i * step + lane] = QKV[s, num_q_heads + num_kv_heads + h, i * step + lane]

    return rotary

"""RMS normalization of each head of queries and keys by itself, and the cast to what attention reads."""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.primitives.lanes import lanes
from mlc_serve.compiler.kernels.cpu.primitives.rms import Row, inverse_rms
from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local
from mlc_serve.compiler.kernels.cpu.primitives.thread_cost import VALUES_PER_WAKING


def head_norm(
    num_q_heads: int, num_kv_heads: int, head_dim: int, epsilon: float, dtype: str
) -> tirx.PrimFunc:
    """QKV `(1, s, hq + 2 hkv, d)` float32, the weights of queries and of keys `(d,)` float32 -> the same
    shape, of `dtype`: X / sqrt(mean(X^2) + epsilon) * weight of each head X of queries and keys, and the
    values as they are.
    """
    num_heads = num_q_heads + 2 * num_kv_heads
    norm_row = _norm_row(num_q_heads, num_kv_heads, head_dim, epsilon, dtype)

    @T.prim_func(s_tir=True, private=True)
    def norm(qkv: T.handle, q_weight: T.handle, k_weight: T.handle, y: T.handle):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_rows = T.int64()
        X = T.match_buffer(qkv, (1, num_rows, num_heads, head_dim), "float32")
        Q = T.match_buffer(q_weight, (head_dim,), "float32")
        K = T.match_buffer(k_weight, (head_dim,), "float32")
        Y = T.match_buffer(y, (1, num_rows, num_heads, head_dim), dtype)
        with T.sblock("root"):
            if num_rows * (num_heads * head_dim) <= VALUES_PER_WAKING:
                for row in T.serial(num_rows):
                    norm_row(X, Q, K, Y, row)
            else:
                for row in T.parallel(num_rows):
                    norm_row(X, Q, K, Y, row)

    return norm


def _norm_row(num_q_heads: int, num_kv_heads: int, head_dim: int, epsilon: float, dtype: str) -> Any:
    """The macro `norm_row(X, Q, K, Y, row)`: all heads of one token."""
    step = lanes(head_dim)
    set_scale = inverse_rms(head_dim, epsilon)

    @T.macro
    def norm_head(X, W, Y, row, head):
        with T.sblock("head"):
            T.reads()
            T.writes()
            scale = local((1,))
            set_scale(Row(X, (0, row, head)), scale)
            for i in T.serial(head_dim // step):
                for lane in T.vectorized(step):
                    Y[0, row, head, i * step + lane] = T.Cast(
                        dtype, X[0, row, head, i * step + lane] * scale[0] * W[i * step + lane]
                    )

    @T.macro
    def norm_row(X, Q, K, Y, row):
        with T.sblock("row"):
            T.reads()
            T.writes()
            for head in T.serial(num_q_heads):
                norm_head(X, Q, Y, row, head)
            for head in T.serial(num_kv_heads):
                norm_head(X, K, Y, row, num_q_heads + head)
            for head in T.serial(num_kv_heads):
                for i in T.serial(head_dim // step):
                    for lane in T.vectorized(step):
                        Y[0, row, num_q_heads + num_kv_heads + head, i * step + lane] = T.Cast(
                            dtype, X[0, row, num_q_heads + num_kv_heads + head, i * step + lane]
                        )

    return norm_row

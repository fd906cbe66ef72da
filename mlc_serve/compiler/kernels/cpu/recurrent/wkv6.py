"""The recurrence of RWKV-6 (Peng et al., 2024, "Eagle and Finch").

A head's state is a matrix S of keys by values. With the token's receptance r, key k, value v and decay w, and
the head's bonus u for the present token:

    out = r (S + diag(u) k v)        S = diag(w) S + k v        w = exp(-exp(base + change))

A task goes through the tokens of one sequence for 16 values of a head, whose part of S stays in the L1 cache.
"""

from __future__ import annotations

import math

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.primitives.exponential import exp2
from mlc_serve.compiler.kernels.cpu.primitives.lanes import lanes
from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local

_LOG2_E = math.log2(math.e)


def wkv6(num_heads: int, head_dim: int) -> tirx.PrimFunc:
    """R, K, V and the change of the decay `(1, n, width)`, the decay's base `(1, 1, width)`, the bonus
    `(num_heads, head_dim)`, the states `(b, num_heads, head_dim, head_dim)`
    -> `(1, n, width)` and the new states. All are float32; each of the b sequences has n / b rows.
    """
    width, step = num_heads * head_dim, lanes(head_dim)
    num_parts = head_dim // step

    @T.prim_func(s_tir=True, private=True)
    def recurrence(
        r: T.handle,
        k: T.handle,
        v: T.handle,
        change: T.handle,
        base: T.handle,
        bonus: T.handle,
        state: T.handle,
        y: T.handle,
        new: T.handle,
    ):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_rows, batch = T.int64(), T.int64()
        R = T.match_buffer(r, (1, num_rows, width), "float32")
        K = T.match_buffer(k, (1, num_rows, width), "float32")
        V = T.match_buffer(v, (1, num_rows, width), "float32")
        D = T.match_buffer(change, (1, num_rows, width), "float32")
        B = T.match_buffer(base, (1, 1, width), "float32")
        U = T.match_buffer(bonus, (num_heads, head_dim), "float32")
        S = T.match_buffer(state, (batch, num_heads, head_dim, head_dim), "float32")
        Y = T.match_buffer(y, (1, num_rows, width), "float32")
        N = T.match_buffer(new, (batch, num_heads, head_dim, head_dim), "float32")
        with T.sblock("root"):
            for task in T.parallel(batch * (num_heads * num_parts)):
                with T.sblock("task"):
                    T.reads()
                    T.writes()
                    b = T.meta_var(task // (num_heads * num_parts))
                    head = T.meta_var(task // num_parts % num_heads)
                    part = T.meta_var(task % num_parts * step)
                    decay = local((head_dim,))
                    total = local((step,))
                    product = local((step,))
                    for i in T.serial(head_dim):
                        for lane in T.vectorized(step):
                            N[b, head, i, part + lane] = S[b, head, i, part + lane]
                    for t in T.serial(num_rows // batch):
                        row = T.meta_var(b * (num_rows // batch) + t)
                        for i in T.serial(num_parts):
                            for lane in T.vectorized(step):
                                decay[i * step + lane] = exp2(
                                    exp2(
                                        (
                                            B[0, 0, head * head_dim + i * step + lane]
                                            + D[0, row, head * head_dim + i * step + lane]
                                        )
                                        * T.float32(_LOG2_E)
                                    )
                                    * T.float32(-_LOG2_E)
                                )
                        for lane in T.vectorized(step):
                            total[lane] = T.float32(0)
                        for i in T.serial(head_dim):
                            for lane in T.vectorized(step):
                                product[lane] = (
                                    K[0, row, head * head_dim + i] * V[0, row, head * head_dim + part + lane]
                                )
                            for lane in T.vectorized(step):
                                total[lane] = total[lane] + R[0, row, head * head_dim + i] * (
                                    N[b, head, i, part + lane] + U[head, i] * product[lane]
                                )
                            for lane in T.vectorized(step):
                                N[b, head, i, part + lane] = (
                                    N[b, head, i, part + lane] * decay[i] + product[lane]
                                )
                        for lane in T.vectorized(step):
                            Y[0, row, head * head_dim + part + lane] = total[lane]

    return recurrence

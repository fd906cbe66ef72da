"""The gates at the ends of RWKV's time mix and channel mix. A row is one task."""

from __future__ import annotations

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.primitives.exponential import sigmoid
from mlc_serve.compiler.kernels.cpu.primitives.lanes import lanes
from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local
from mlc_serve.compiler.kernels.cpu.recurrent.moments import moments


def gated_group_norm(num_heads: int, head_dim: int, epsilon: float) -> tirx.PrimFunc:
    """X and gates `(1, n, width)`, weight and bias `(width,)` -> the layer normalization of each head of X by
    itself, times SiLU(gate); all float32.
    """
    width, step = num_heads * head_dim, lanes(head_dim)
    set_moments = moments(head_dim, epsilon)

    @T.prim_func(s_tir=True, private=True)
    def norm(x: T.handle, gate: T.handle, weight: T.handle, bias: T.handle, y: T.handle):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_rows = T.int64()
        X = T.match_buffer(x, (1, num_rows, width), "float32")
        G = T.match_buffer(gate, (1, num_rows, width), "float32")
        W = T.match_buffer(weight, (width,), "float32")
        B = T.match_buffer(bias, (width,), "float32")
        Y = T.match_buffer(y, (1, num_rows, width), "float32")
        with T.sblock("root"):
            for row in T.parallel(num_rows):
                for head in T.serial(num_heads):
                    with T.sblock("head"):
                        T.reads()
                        T.writes()
                        first = T.meta_var(head * head_dim)
                        mean = local((1,))
                        scale = local((1,))
                        set_moments(X, row, first, mean, scale)
                        for i in T.serial(head_dim // step):
                            for lane in T.vectorized(step):
                                Y[0, row, first + i * step + lane] = (
                                    (
                                        (X[0, row, first + i * step + lane] - mean[0])
                                        * scale[0]
                                        * W[first + i * step + lane]
                                        + B[first + i * step + lane]
                                    )
                                    * G[0, row, first + i * step + lane]
                                    * sigmoid(G[0, row, first + i * step + lane])
                                )

    return norm


def add_gated(width: int) -> tirx.PrimFunc:
    """The residual, X and gates, all `(1, n, width)` -> residual + sigmoid(gate) * X."""
    step = lanes(width)

    @T.prim_func(s_tir=True, private=True)
    def add(residual: T.handle, x: T.handle, gate: T.handle, y: T.handle):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_rows = T.int64()
        A = T.match_buffer(residual, (1, num_rows, width), "float32")
        X = T.match_buffer(x, (1, num_rows, width), "float32")
        G = T.match_buffer(gate, (1, num_rows, width), "float32")
        Y = T.match_buffer(y, (1, num_rows, width), "float32")
        with T.sblock("root"):
            for row in T.parallel(num_rows):
                for i in T.serial(width // step):
                    for lane in T.vectorized(step):
                        Y[0, row, i * step + lane] = (
                            A[0, row, i * step + lane]
                            + sigmoid(G[0, row, i * step + lane]) * X[0, row, i * step + lane]
                        )

    return add

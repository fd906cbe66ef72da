"""The gate of an expert that all tokens are sent to. A row is one task."""

from __future__ import annotations

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.primitives.exponential import sigmoid
from mlc_serve.compiler.kernels.cpu.primitives.lanes import lanes
from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local


def shared_gate(hidden: int, inner: int) -> tirx.PrimFunc:
    """X `(1, s, hidden)`, weight `(1, hidden)`, inner values `(1, s, inner)` -> the inner values times the
    sigmoid of X W^T, all float32.
    """
    step, inner_step = lanes(hidden), lanes(inner)

    @T.prim_func(s_tir=True, private=True)
    def gate(x: T.handle, weight: T.handle, values: T.handle, y: T.handle):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_rows = T.int64()
        X = T.match_buffer(x, (1, num_rows, hidden), "float32")
        W = T.match_buffer(weight, (1, hidden), "float32")
        V = T.match_buffer(values, (1, num_rows, inner), "float32")
        Y = T.match_buffer(y, (1, num_rows, inner), "float32")
        with T.sblock("root"):
            for row in T.parallel(num_rows):
                with T.sblock("row"):
                    T.reads()
                    T.writes()
                    products = local((step,))
                    factor = local((1,))
                    factor[0] = T.float32(0)
                    for lane in T.vectorized(step):
                        products[lane] = T.float32(0)
                    for i in T.serial(hidden // step):
                        for lane in T.vectorized(step):
                            products[lane] = (
                                products[lane] + X[0, row, i * step + lane] * W[0, i * step + lane]
                            )
                    for lane in T.unroll(step):
                        factor[0] = factor[0] + products[lane]
                    factor[0] = sigmoid(factor[0])
                    for i in T.serial(inner // inner_step):
                        for lane in T.vectorized(inner_step):
                            Y[0, row, i * inner_step + lane] = V[0, row, i * inner_step + lane] * factor[0]

    return gate

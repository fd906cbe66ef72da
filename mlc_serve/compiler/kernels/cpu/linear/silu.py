"""SiLU(gate) * up, where the halves of a row are gate and up. A row is one task."""

from __future__ import annotations

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.primitives.exponential import sigmoid
from mlc_serve.compiler.kernels.cpu.primitives.lanes import lanes


def silu_multiply(width: int) -> tirx.PrimFunc:
    """X `(1, s, 2 * width)`, gate before up -> `(1, s, width)`, float32."""
    step = lanes(width)

    @T.prim_func(s_tir=True, private=True)
    def activation(x: T.handle, y: T.handle):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_rows = T.int64()
        X = T.match_buffer(x, (1, num_rows, 2 * width), "float32")
        Y = T.match_buffer(y, (1, num_rows, width), "float32")
        with T.sblock("root"):
            for row in T.parallel(num_rows):
                for i in T.serial(width // step):
                    for lane in T.vectorized(step):
                        Y[0, row, i * step + lane] = (
                            X[0, row, i * step + lane]
                            * sigmoid(X[0, row, i * step + lane])
                            * X[0, row, width + i * step + lane]
                        )

    return activation

"""RMS normalization. A row is one task."""

from __future__ import annotations

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.primitives.lanes import lanes
from mlc_serve.compiler.kernels.cpu.primitives.local import local


def rms_norm(width: int, epsilon: float) -> tirx.PrimFunc:
    """X `(1, s, width)`, weight `(width,)` -> X / sqrt(mean(X^2) + epsilon) * weight, all float32."""
    step = lanes(width)

    @T.prim_func(s_tir=True, private=True)
    def norm(x: T.handle, weight: T.handle, y: T.handle):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_rows = T.int64()
        X = T.match_buffer(x, (1, num_rows, width), "float32")
        W = T.match_buffer(weight, (width,), "float32")
        Y = T.match_buffer(y, (1, num_rows, width), "float32")
        with T.sblock("root"):
            for row in T.parallel(num_rows):
                with T.sblock("row"):
                    T.reads()
                    T.writes()
                    squares = local((step,))
                    scale = local((1,))
                    for lane in T.vectorized(step):
                        squares[lane] = T.float32(0)
                    for i in T.serial(width // step):
                        for lane in T.vectorized(step):
                            squares[lane] = (
                                squares[lane] + X[0, row, i * step + lane] * X[0, row, i * step + lane]
                            )
                    scale[0] = T.float32(0)
                    for lane in T.unroll(step):
                        scale[0] = scale[0] + squares[lane]
                    scale[0] = T.float32(1) / T.sqrt(scale[0] / T.float32(width) + T.float32(epsilon))
                    for i in T.serial(width // step):
                        for lane in T.vectorized(step):
                            Y[0, row, i * step + lane] = (
                                X[0, row, i * step + lane] * scale[0] * W[i * step + lane]
                            )

    return norm

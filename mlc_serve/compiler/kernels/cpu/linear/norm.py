"""RMS normalization. A row is one task."""

from __future__ import annotations

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.primitives.lanes import lanes
from mlc_serve.compiler.kernels.cpu.primitives.rms import Row, inverse_rms
from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local


def rms_norm(width: int, epsilon: float) -> tirx.PrimFunc:
    """X `(1, s, width)`, weight `(width,)` -> X / sqrt(mean(X^2) + epsilon) * weight, all float32."""
    step = lanes(width)
    set_scale = inverse_rms(width, epsilon)

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
                    scale = local((1,))
                    set_scale(Row(X, (0, row)), scale)
                    for i in T.serial(width // step):
                        for lane in T.vectorized(step):
                            Y[0, row, i * step + lane] = (
                                X[0, row, i * step + lane] * scale[0] * W[i * step + lane]
                            )

    return norm

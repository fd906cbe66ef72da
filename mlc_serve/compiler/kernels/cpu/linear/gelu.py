"""GELU of every value: x times the share of a normal distribution that is below x. A row is one task."""

from __future__ import annotations

import math

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.primitives.error_function import erf
from mlc_serve.compiler.kernels.cpu.primitives.lanes import lanes


def gelu(width: int) -> tirx.PrimFunc:
    """X `(1, s, width)` -> X / 2 * (1 + erf(X / sqrt 2)), float32."""
    step = lanes(width)

    @T.prim_func(s_tir=True, private=True)
    def activation(x: T.handle, y: T.handle):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_rows = T.int64()
        X = T.match_buffer(x, (1, num_rows, width), "float32")
        Y = T.match_buffer(y, (1, num_rows, width), "float32")
        with T.sblock("root"):
            for row in T.parallel(num_rows):
                for i in T.serial(width // step):
                    for lane in T.vectorized(step):
                        Y[0, row, i * step + lane] = (
                            X[0, row, i * step + lane]
                            * T.float32(0.5)
                            * (T.float32(1) + erf(X[0, row, i * step + lane] * T.float32(math.sqrt(0.5))))
                        )

    return activation

"""The last step of logits: a scale, and a soft cap. A chunk of a row is one task."""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.primitives.hyperbolic_tangent import tanh
from mlc_serve.compiler.kernels.cpu.primitives.lanes import lanes

_CHUNK = 4096


def soften(width: int, scale: float, cap: float | None) -> tirx.PrimFunc:
    """X `(1, s, width)` -> scale * X, or with a cap, cap * tanh(scale * X / cap), float32."""
    step = lanes(width)
    num_chunks = -(-width // _CHUNK)

    def softened(x: Any) -> Any:
        if cap is None:
            return x * tirx.const(scale, "float32")
        return tanh(x * tirx.const(scale / cap, "float32")) * tirx.const(cap, "float32")

    @T.prim_func(s_tir=True, private=True)
    def soften(x: T.handle, y: T.handle):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_rows = T.int64()
        X = T.match_buffer(x, (1, num_rows, width), "float32")
        Y = T.match_buffer(y, (1, num_rows, width), "float32")
        with T.sblock("root"):
            for task in T.parallel(num_rows * num_chunks):
                for i in T.serial(T.min(T.int64(_CHUNK), width - task % num_chunks * _CHUNK) // step):
                    for lane in T.vectorized(step):
                        Y[0, task // num_chunks, task % num_chunks * _CHUNK + i * step + lane] = softened(
                            X[0, task // num_chunks, task % num_chunks * _CHUNK + i * step + lane]
                        )

    return soften

"""The exponential function of attention and activations, over all its arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import tirx
from tvm.script import tirx as T  # noqa: N812  the name that TVM's parser is used to

from mlc_serve.compiler.kernels.cpu.primitives.exponential import exp2, sigmoid


def both(length: int) -> tirx.PrimFunc:
    """exp2 and sigmoid of each element, as vectors of 16."""

    @T.prim_func(s_tir=True, private=True)  # type: ignore[untyped-decorator]  # TVM is untyped
    def kernel(x: T.handle, y: T.handle, z: T.handle) -> None:
        T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True})
        X = T.match_buffer(x, (length,), "float32")  # noqa: N806
        Y = T.match_buffer(y, (length,), "float32")  # noqa: N806
        Z = T.match_buffer(z, (length,), "float32")  # noqa: N806
        for i in T.serial(length // 16):
            for lane in T.vectorized(16):
                Y[i * 16 + lane] = exp2(X[i * 16 + lane])
                Z[i * 16 + lane] = sigmoid(X[i * 16 + lane])

    return kernel


def test_powers_are_right_over_the_whole_range(build: Callable[..., Any]) -> None:
    """The relative error is below 3e-7 within [-126, 126]. Beyond, the value is that at the border, and never
    zero, infinite or NaN.
    """
    inside = np.linspace(-126, 126, 16 * 400, dtype=np.float32)
    beyond = np.array([-127, -1e3, -5e4, -1e30, -np.inf, 127, 1e30, np.inf] * 2, np.float32)
    x = np.concatenate([inside, np.arange(-126, 126, dtype=np.float32)[: 16 * 15], beyond])
    y, z = np.zeros_like(x), np.zeros_like(x)

    build(both(len(x)))(x, y, z)

    np.testing.assert_allclose(y, np.exp2(np.clip(x, -126, 126).astype(np.float64)), rtol=3e-7)
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(z, 1 / (1 + np.exp(-x.astype(np.float64))), rtol=1e-5, atol=1e-37)

"""The hyperbolic tangent, over all its arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tvm import tirx
from tvm.script import tirx as T  # noqa: N812  the name that TVM's parser is used to

from mlc_serve.compiler.kernels.cpu.primitives.hyperbolic_tangent import tanh
from mlc_serve.compiler.kernels.cpu.primitives.vector import vector


def in_a_loop(length: int) -> tirx.PrimFunc:
    """The tangent of each element, in a loop that is vectorized."""

    @T.prim_func(s_tir=True, private=True)  # type: ignore[untyped-decorator]  # TVM is untyped
    def kernel(x: T.handle, y: T.handle) -> None:
        T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True})
        X = T.match_buffer(x, (length,), "float32")  # noqa: N806
        Y = T.match_buffer(y, (length,), "float32")  # noqa: N806
        for i in T.serial(length // 16):
            for lane in T.vectorized(16):
                Y[i * 16 + lane] = tanh(X[i * 16 + lane])

    return kernel


def of_vectors(length: int) -> tirx.PrimFunc:
    """The tangent of each element, of explicit vectors."""

    @T.prim_func(s_tir=True, private=True)  # type: ignore[untyped-decorator]  # TVM is untyped
    def kernel(x: T.handle, y: T.handle) -> None:
        T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True})
        X = T.match_buffer(x, (length,), "float32")  # noqa: N806
        Y = T.match_buffer(y, (length,), "float32")  # noqa: N806
        for i in T.serial(length // 16):
            Y[vector(i * 16)] = tanh(X[vector(i * 16)], 16)

    return kernel


@pytest.mark.parametrize("form", [in_a_loop, of_vectors])
def test_tangents_are_right_to_a_few_units(build: Callable[..., Any], form: Callable[[int], Any]) -> None:
    """The error is below four units in the last place, from the smallest numbers to infinity, and NaN stays
    NaN.
    """
    sizes = np.concatenate([np.geomspace(1e-37, 100, 16 * 300), np.linspace(0, 12, 16 * 300), [np.inf] * 16])
    x = np.concatenate([sizes, -sizes, [np.nan] * 16]).astype(np.float32)
    y = np.zeros_like(x)

    build(form(len(x)))(x, y)

    expected = np.tanh(x[:-16].astype(np.float64))
    error = np.abs(y[:-16] - expected) / np.spacing(np.abs(expected).astype(np.float32))
    assert error.max() < 4
    assert np.isnan(y[-16:]).all()

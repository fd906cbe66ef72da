"""Norms of rows, against their formulas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mlc_serve.compiler.kernels.cpu.linear.norm import norm
from mlc_serve.models.parts.norm import Norm
from tests.compiler.kernels.cpu.linear.norms import normalised, norms


@pytest.mark.parametrize("spec", [*norms(576), *norms(50), *norms(7)], ids=str)
def test_rows_are_normalised_and_scaled(build: Callable[..., Any], spec: Norm) -> None:
    """Each row is normalised on its own, also far from zero, and where its width is no multiple of a vector.
    The result may be added to a residual.
    """
    rng = np.random.default_rng(0)
    kernel, adding = build(norm(spec)), build(norm(spec, "result"))
    weight, bias = rng.standard_normal((2, spec.width), dtype=np.float32)
    for num_rows in (1, 3, 37):
        x, residual = rng.standard_normal((2, 1, num_rows, spec.width), dtype=np.float32) * 3
        x[0, -1] += 100
        y, total = np.full_like(x, np.nan), np.full_like(x, np.nan)

        kernel(x, residual, weight, bias, y)
        adding(x, residual, weight, bias, total)

        expected = normalised(x, spec, weight, bias)
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(total, expected + residual, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("spec", norms(64), ids=str)
def test_a_row_of_zeros_is_the_bias(build: Callable[..., Any], spec: Norm) -> None:
    """Nothing is divided by zero."""
    x, weight, bias = np.zeros((1, 1, 64), np.float32), *np.ones((2, 64), np.float32)
    y = np.full_like(x, np.nan)
    build(norm(spec))(x, x, weight, bias, y)
    assert np.array_equal(y[0, 0], bias if spec.bias else 0 * bias)


@pytest.mark.parametrize("width", [384, 50])
def test_sums_are_normalised(build: Callable[..., Any], width: int) -> None:
    """A residual may be added before the norm."""
    spec = Norm("layer", width, 1e-12, bias=True)
    rng = np.random.default_rng(0)
    weight, bias = rng.standard_normal((2, width), dtype=np.float32)
    x, residual = rng.standard_normal((2, 1, 5, width), dtype=np.float32)
    y = np.full_like(x, np.nan)
    build(norm(spec, "input"))(x, residual, weight, bias, y)
    np.testing.assert_allclose(y, normalised(x + residual, spec, weight, bias), rtol=1e-4, atol=1e-4)

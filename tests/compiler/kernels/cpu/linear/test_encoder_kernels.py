"""Layer normalization, GELU and embeddings of positions, against their formulas."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mlc_serve.compiler.kernels.cpu.linear.embedding import position_embedding
from mlc_serve.compiler.kernels.cpu.linear.gelu import gelu
from mlc_serve.compiler.kernels.cpu.linear.layer_norm import add_layer_norm


@pytest.mark.parametrize("width", [384, 50, 7])
def test_sums_of_rows_are_normalised(build: Callable[..., Any], width: int) -> None:
    """Each row is normalised on its own, also far from zero, and where its width is no whole vectors."""
    rng = np.random.default_rng(0)
    kernel = build(add_layer_norm(width, 1e-12))
    weight, bias = rng.standard_normal((2, width), dtype=np.float32)
    x, residual = rng.standard_normal((2, 1, 5, width), dtype=np.float32)
    x[0, 1] += 100
    y = np.full_like(x, np.nan)

    kernel(x, residual, weight, bias, y)

    total = (x + residual).astype(np.float64)
    centred = total - total.mean(-1, keepdims=True)
    expected = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12) * weight + bias
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("width", [64, 7])
def test_gelu_is_exact_to_float32(build: Callable[..., Any], width: int) -> None:
    """The error is below a millionth for values of every size, as far as the tails."""
    x = np.linspace(-30, 30, 9 * width, dtype=np.float32).reshape(1, 9, width)
    y = np.full_like(x, np.nan)

    build(gelu(width))(x, y)

    expected = [value / 2 * (1 + math.erf(value / math.sqrt(2))) for value in x.ravel().tolist()]
    np.testing.assert_allclose(y.ravel(), expected, rtol=1e-6, atol=1e-6)


def test_positions_are_looked_up(build: Callable[..., Any]) -> None:
    """Each row is that of its position, plus that of the first type."""
    rng = np.random.default_rng(0)
    table, types = (
        rng.standard_normal((9, 20), dtype=np.float32),
        rng.standard_normal((2, 20), dtype=np.float32),
    )
    positions = np.array([3, 0, 8], np.int32)
    y = np.full((3, 20), np.nan, np.float32)

    build(position_embedding(9, 2, 20))(positions, table, types, y)

    assert np.array_equal(y, table[positions] + types[0])

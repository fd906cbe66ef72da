"""Activations, against their formulas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mlc_serve.compiler.kernels.cpu.linear.activation import activate_rows
from mlc_serve.models.parts.activation import Activation
from tests.compiler.kernels.cpu.linear.quantized import ACTIVATIONS


@pytest.mark.parametrize("width", [96, 9])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_are_exact_to_float32(
    build: Callable[..., Any], activation: Activation, width: int
) -> None:
    """The error is about a millionth for values of every size, as far as the tails, alone and as a gate."""
    alone = build(activate_rows(width, activation, gated=False))
    gated = build(activate_rows(width, activation, gated=True))
    for num_rows in (1, 9):
        x = np.linspace(-30, 30, num_rows * width, dtype=np.float32).reshape(1, num_rows, width)
        x[0, 0, :3] = (-200, 200, 0)
        up = np.random.default_rng(0).standard_normal(x.shape, dtype=np.float32)
        y, product = np.full_like(x, np.nan), np.full_like(x, np.nan)

        alone(x, y)
        gated(np.concatenate([x, up], axis=2), product)

        expected = ACTIVATIONS[activation](x.astype(np.float64))
        np.testing.assert_allclose(y, expected, rtol=2e-6, atol=2e-6)
        np.testing.assert_allclose(product, expected * up, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_what_is_no_number_stays_none(build: Callable[..., Any], activation: Activation) -> None:
    """NaN is not hidden, so that sampling notices it."""
    x = np.full((1, 1, 16), np.nan, np.float32)
    y = np.zeros_like(x)
    build(activate_rows(16, activation, gated=False))(x, y)
    assert np.isnan(y).all()

"""Whole linear layers with integer weights, against NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mlc_serve.compiler.kernels.cpu.instructions import dot_for
from mlc_serve.compiler.kernels.cpu.linear.integer_linear import LinearShape, integer_linear
from mlc_serve.compiler.target import target_for
from tests.compiler.kernels.cpu.linear.quantized import (
    EIGHT_BITS,
    FOUR_BITS,
    empty_result,
    random_extra,
    random_weight,
    rounded,
    with_epilogue,
)

EPSILON = 1e-5
SHAPES = [
    LinearShape(100, 150, EIGHT_BITS, "bias", "float32", "float16", EPSILON),
    LinearShape(64, 128, EIGHT_BITS, "gated", "float32", "float32", EPSILON),
    LinearShape(48, 90, FOUR_BITS, "residual", "float16", "float32"),
    LinearShape(33, 64, FOUR_BITS, "none", "float32", "float32"),
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.epilogue)
def test_a_layer_is_its_norm_its_rounding_and_its_product(
    build: Callable[..., Any], shape: LinearShape
) -> None:
    """A layer equals norm, rounding and product in NumPy, with a norm and without, for both float types."""
    kernel = build(integer_linear(shape, dot_for(target_for("cpu"), shape.groups)))
    weight = random_weight(shape.num_columns, shape.depth, shape.groups, shape.epilogue)
    rng = np.random.default_rng(0)
    norm = rng.standard_normal(shape.depth, dtype=np.float32)
    for num_rows in (1, 7):
        x = rng.standard_normal((1, num_rows, shape.depth)).astype(shape.in_dtype)
        extra = random_extra(shape.num_columns, num_rows, shape.epilogue)
        y = empty_result(shape.num_columns, num_rows, shape.epilogue, shape.out_dtype)

        kernel(x, norm, weight.packed, weight.scale, extra, y)

        normalised = x.astype(np.float64)
        if shape.epsilon is not None:
            square = (normalised**2).mean(axis=2, keepdims=True)
            normalised = normalised / np.sqrt(square + shape.epsilon) * norm
        steps, scales = rounded(normalised, shape.groups)
        stand_for = steps * scales.repeat(shape.groups.group_size, axis=2)
        expected = with_epilogue(stand_for @ weight.dense.T, extra, shape.epilogue)
        # A value in the middle of two steps may be rounded to either, which is worth a step times a weight.
        step = scales.max() * np.abs(weight.dense).max()
        np.testing.assert_allclose(y, expected, atol=2 * step, rtol=1e-3)


@pytest.mark.parametrize("epsilon", [None, EPSILON])
def test_a_row_that_is_no_number_spoils_no_other(build: Callable[..., Any], epsilon: float | None) -> None:
    """Rows with NaN or infinity have results that are no numbers, which sampling notices. Other rows are
    finite.
    """
    shape = LinearShape(40, 128, EIGHT_BITS, "none", "float32", "float32", epsilon)
    kernel = build(integer_linear(shape, dot_for(target_for("cpu"), shape.groups)))
    weight = random_weight(40, 128, EIGHT_BITS, "none")
    x = np.random.default_rng(0).standard_normal((1, 7, 128), dtype=np.float32)
    x[0, 3, 50], x[0, 5, 100] = np.nan, np.inf
    y = empty_result(40, 7, "none", "float32")
    kernel(x, np.ones(128, np.float32), weight.packed, weight.scale, x, y)
    finite = np.isfinite(y[0])
    assert not finite[[3, 5]].any()
    assert finite[[0, 1, 2, 4, 6]].all()

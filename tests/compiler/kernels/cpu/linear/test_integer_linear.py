"""Whole linear layers with integer weights, against NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mlc_serve.compiler.kernels.cpu.instructions import dot_for
from mlc_serve.compiler.kernels.cpu.linear.integer_linear import LinearShape, integer_linear
from mlc_serve.compiler.target import target_for
from mlc_serve.models.parts.norm import Norm
from tests.compiler.kernels.cpu.linear.norms import normalised, norms
from tests.compiler.kernels.cpu.linear.quantized import (
    ACTIVATED,
    BIAS,
    EIGHT_BITS,
    FOUR_BITS,
    GATED,
    GATED_BIAS,
    PLAIN,
    RESIDUAL,
    SCALED,
    empty_result,
    random_addends,
    random_weight,
    rounded,
    with_epilogue,
)

SHAPES = [
    LinearShape(100, 150, EIGHT_BITS, BIAS, "float32", "float16", norms(150)[0]),
    LinearShape(64, 128, EIGHT_BITS, GATED, "float32", "float32", norms(128)[0]),
    LinearShape(64, 100, EIGHT_BITS, GATED_BIAS, "float32", "float32", norms(100)[1]),
    LinearShape(41, 90, FOUR_BITS, ACTIVATED, "float32", "float32", norms(90)[2]),
    LinearShape(60, 64, EIGHT_BITS, SCALED, "float32", "float32"),
    LinearShape(48, 90, FOUR_BITS, RESIDUAL, "float16", "float32"),
    LinearShape(33, 64, FOUR_BITS, PLAIN, "float32", "float32"),
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.epilogue.name)
def test_a_layer_is_its_norm_its_rounding_and_its_product(
    build: Callable[..., Any], shape: LinearShape
) -> None:
    """A layer equals norm, rounding and product in NumPy, with a norm and without, for both float types."""
    kernel = build(integer_linear(shape, dot_for(target_for("cpu"), shape.groups)))
    weight = random_weight(shape.num_columns, shape.depth, shape.groups, shape.epilogue)
    rng = np.random.default_rng(0)
    norm = rng.standard_normal((2, shape.depth), dtype=np.float32)
    for num_rows in (1, 7):
        x = rng.standard_normal((1, num_rows, shape.depth)).astype(shape.in_dtype)
        addends = random_addends(shape.num_columns, num_rows)
        y = empty_result(shape.num_columns, num_rows, shape.epilogue, shape.out_dtype)

        kernel(x, *norm, weight.packed, weight.scale, *addends, y)

        rows = x.astype(np.float64) if shape.norm is None else normalised(x, shape.norm, *norm)
        steps, scales = rounded(rows, shape.groups)
        stand_for = steps * scales.repeat(shape.groups.group_size, axis=2)
        expected = with_epilogue(stand_for @ weight.dense.T, addends, shape.epilogue)
        # A value in the middle of two steps may be rounded to either, which is worth a step times a weight.
        step = scales.max() * np.abs(weight.dense).max()
        np.testing.assert_allclose(y, expected, atol=2 * step, rtol=1e-3)


@pytest.mark.parametrize("norm", [None, *norms(128)], ids=str)
def test_a_row_that_is_no_number_spoils_no_other(build: Callable[..., Any], norm: Norm | None) -> None:
    """Rows with NaN or infinity have results that are no numbers, which sampling notices. Other rows are
    finite.
    """
    shape = LinearShape(40, 128, EIGHT_BITS, PLAIN, "float32", "float32", norm)
    kernel = build(integer_linear(shape, dot_for(target_for("cpu"), shape.groups)))
    weight = random_weight(40, 128, EIGHT_BITS, PLAIN)
    x = np.random.default_rng(0).standard_normal((1, 7, 128), dtype=np.float32)
    x[0, 3, 50], x[0, 5, 100] = np.nan, np.inf
    y = empty_result(40, 7, PLAIN, "float32")
    kernel(x, *np.ones((2, 128), np.float32), weight.packed, weight.scale, x, x, y)
    finite = np.isfinite(y[0])
    assert not finite[[3, 5]].any()
    assert finite[[0, 1, 2, 4, 6]].all()

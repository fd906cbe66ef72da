"""Products of float32 activations with integers in groups, against NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mlc_serve.compiler.kernels.cpu.instructions import float_unit_for
from mlc_serve.compiler.kernels.cpu.linear.dequantized_matmul import dequantized_matmul
from mlc_serve.compiler.kernels.cpu.linear.epilogue import Epilogue
from mlc_serve.compiler.target import target_for
from tests.compiler.kernels.cpu.linear.quantized import (
    ACTIVATED,
    BIAS,
    FOUR_BITS,
    GATED,
    GATED_BIAS,
    GROUPS,
    NUM_ROWS,
    PLAIN,
    RESIDUAL,
    SCALED,
    empty_result,
    random_addends,
    random_weight,
    with_epilogue,
)

UNIT = float_unit_for(target_for("cpu"))
TOLERANCES = {"float32": 2e-6, "float16": 1e-3}  # of float32 sums, and of the result's type


@pytest.mark.parametrize(
    ("scheme", "num_columns", "depth", "epilogue", "dtype"),
    [
        ("q8f32_1", 100, 128, BIAS, "float16"),
        ("q8f32_1", 64, 90, GATED, "float32"),
        ("q4f16_1", 33, 37, RESIDUAL, "float32"),
        ("q4f32_1", 96, 64, PLAIN, "float32"),
        ("q8f32_1", 96, 64, GATED_BIAS, "float32"),
        ("q4f16_1", 41, 40, ACTIVATED, "float32"),
        ("q8f32_1", 60, 30, SCALED, "float32"),
        ("q3f16_1", 48, 76, BIAS, "float32"),
    ],
)
def test_a_product_is_that_of_what_the_weights_stand_for(
    build: Callable[..., Any], scheme: str, num_columns: int, depth: int, epilogue: Epilogue, dtype: str
) -> None:
    """Products equal NumPy's for any number of rows, and for partial tiles, groups and vectors."""
    groups = GROUPS[scheme]
    kernel = build(dequantized_matmul(num_columns, depth, groups, epilogue, dtype, UNIT))
    weight = random_weight(num_columns, depth, groups, epilogue)
    for num_rows in NUM_ROWS:
        x = np.random.default_rng(num_rows).standard_normal((1, num_rows, depth), dtype=np.float32)
        addends = random_addends(num_columns, num_rows)
        y = empty_result(num_columns, num_rows, epilogue, dtype)

        kernel(x, weight.packed, weight.scale, *addends, y)

        expected = with_epilogue(x.astype(np.float64) @ weight.dense[:, :depth].T, addends, epilogue)
        np.testing.assert_allclose(y, expected, atol=TOLERANCES[dtype] * np.abs(expected).max())


def test_a_row_that_is_no_number_spoils_no_other(build: Callable[..., Any]) -> None:
    """NaN in a row makes that row's results NaN."""
    kernel = build(dequantized_matmul(40, 64, FOUR_BITS, PLAIN, "float32", UNIT))
    weight = random_weight(40, 64, FOUR_BITS, PLAIN)
    x = np.ones((1, 7, 64), np.float32)
    x[0, 3, 50] = np.nan
    y = empty_result(40, 7, PLAIN, "float32")
    kernel(x, weight.packed, weight.scale, x, x, y)
    assert [bool(np.isnan(row).all()) for row in y[0]] == [row == 3 for row in range(7)]
    assert np.isfinite(y[0, [0, 1, 2, 4, 5, 6]]).all()

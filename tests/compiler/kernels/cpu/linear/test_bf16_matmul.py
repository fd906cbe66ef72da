"""Products with weights of type bfloat16, against NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from mlc_serve.compiler.features import has
from mlc_serve.compiler.kernels.cpu.linear.bf16_matmul import bf16_matmul
from mlc_serve.compiler.kernels.cpu.linear.epilogue import Epilogue
from mlc_serve.compiler.kernels.cpu.primitives.float_unit import FloatUnit
from mlc_serve.compiler.target import target_for
from mlc_serve.quantization.packing import pack
from tests.compiler.kernels.cpu.linear.quantized import (
    ACTIVATED,
    BIAS,
    GATED,
    GATED_BIAS,
    NUM_ROWS,
    PLAIN,
    RESIDUAL,
    SCALED,
    empty_result,
    random_addends,
    with_epilogue,
)

bfloat16 = pytest.mark.skipif(not has(target_for("cpu"), "avx512bf16"), reason="no such instructions here")
UNITS = [
    pytest.param(FloatUnit(2, 8, 16, has_pairs=True), id="pairs", marks=bfloat16),
    pytest.param(FloatUnit(2, 2, 6, has_pairs=False), id="widened"),
]
TOLERANCES = {"float32": 2e-6, "float16": 1e-3}  # of float32 sums, and of the result's type


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize(
    ("num_columns", "depth", "epilogue", "dtype"),
    [
        (96, 64, PLAIN, "float32"),
        (100, 48, BIAS, "float16"),
        (64, 33, GATED, "float32"),
        (7, 5, RESIDUAL, "float32"),
        (96, 32, GATED_BIAS, "float32"),
        (41, 40, ACTIVATED, "float32"),
        (60, 30, SCALED, "float32"),
    ],
)
def test_a_product_is_that_of_numpy(
    build: Callable[..., Any],
    unit: FloatUnit,
    num_columns: int,
    depth: int,
    epilogue: Epilogue,
    dtype: str,
) -> None:
    """Products equal NumPy's for any number of rows, widths of no whole tiles, and odd depths. Where the
    processor adds up pairs, rows are rounded to bfloat16 first.
    """
    kernel = build(bf16_matmul(num_columns, depth, epilogue, dtype, unit))
    rng = np.random.default_rng(0)
    weight = (rng.standard_normal((num_columns, depth)) / depth**0.5).astype(ml_dtypes.bfloat16)
    packed = pack(weight, "tiles16-pairs-paired" if epilogue.gated else "tiles16-pairs")
    for num_rows in NUM_ROWS:
        x = rng.standard_normal((1, num_rows, depth), dtype=np.float32)
        addends = random_addends(num_columns, num_rows)
        y = empty_result(num_columns, num_rows, epilogue, dtype)

        kernel(x, packed, *addends, y)

        factor = x.astype(ml_dtypes.bfloat16) if unit.has_pairs else x
        expected = with_epilogue(factor.astype(np.float64) @ weight.T.astype(np.float64), addends, epilogue)
        np.testing.assert_allclose(y, expected, atol=TOLERANCES[dtype] * np.abs(expected).max())


@pytest.mark.parametrize("unit", UNITS)
def test_a_row_that_is_no_number_spoils_no_other(build: Callable[..., Any], unit: FloatUnit) -> None:
    """NaN in a row makes that row's results NaN, and infinity makes them infinite."""
    kernel = build(bf16_matmul(40, 64, PLAIN, "float32", unit))
    packed = pack(np.ones((40, 64), ml_dtypes.bfloat16), "tiles16-pairs")
    x = np.ones((1, 7, 64), np.float32)
    x[0, 3, 50], x[0, 5, 7] = np.nan, np.inf
    y = empty_result(40, 7, PLAIN, "float32")
    kernel(x, packed, x, x, y)
    assert y[0, :, 39].tolist() == pytest.approx([64, 64, 64, np.nan, 64, np.inf, 64], nan_ok=True)

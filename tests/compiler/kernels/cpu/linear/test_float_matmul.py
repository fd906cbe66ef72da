"""Products with packed weights, against NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mlc_serve.compiler.kernels.cpu.instructions import float_unit_for
from mlc_serve.compiler.kernels.cpu.linear.epilogue import Epilogue
from mlc_serve.compiler.kernels.cpu.linear.float_matmul import float_matmul
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

TOLERANCES = {"float32": 2e-6, "float16": 1e-3}  # of float32 sums, and of the result's type


@pytest.mark.parametrize(
    ("num_columns", "depth", "weight_dtype", "epilogue", "dtype"),
    [
        (96, 64, "float32", PLAIN, "float16"),
        (100, 48, "float32", BIAS, "float32"),
        (7, 5, "float16", PLAIN, "float32"),
        (56, 33, "float16", RESIDUAL, "float32"),
        (33, 40, "float32", RESIDUAL, "float32"),
        (64, 40, "float16", GATED, "float32"),
        (64, 40, "float16", GATED_BIAS, "float32"),
        (41, 40, "float32", ACTIVATED, "float32"),
        (60, 30, "float32", SCALED, "float32"),
    ],
)
def test_a_product_is_that_of_numpy(
    build: Callable[..., Any],
    num_columns: int,
    depth: int,
    weight_dtype: str,
    epilogue: Epilogue,
    dtype: str,
) -> None:
    """Products equal NumPy's for any number of rows, partial tiles, float16 weights and every epilogue."""
    rng = np.random.default_rng(0)
    unit = float_unit_for(target_for("cpu"))
    kernel = build(float_matmul(num_columns, depth, weight_dtype, epilogue, dtype, unit))
    weight = (rng.standard_normal((num_columns, depth)) / depth**0.5).astype(weight_dtype)
    packed = pack(weight, "tiles16-paired" if epilogue.gated else "tiles16")
    for num_rows in NUM_ROWS:
        x = rng.standard_normal((1, num_rows, depth), dtype=np.float32)
        addends = random_addends(num_columns, num_rows)
        y = empty_result(num_columns, num_rows, epilogue, dtype)

        kernel(x, packed, *addends, y)

        expected = with_epilogue(x.astype(np.float64) @ weight.T.astype(np.float64), addends, epilogue)
        np.testing.assert_allclose(y, expected, atol=TOLERANCES[dtype] * np.abs(expected).max())

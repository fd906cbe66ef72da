"""Products with packed weights, against NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mlc_serve.compiler.kernels.cpu.matmul import Epilogue, packed_matmul
from mlc_serve.quantization.packing import pack_tiles16


@pytest.mark.parametrize(
    ("num_columns", "depth", "dtype", "epilogue"),
    [
        (96, 64, "float32", "none"),
        (100, 48, "float32", "bias"),
        (7, 5, "float16", "none"),
        (56, 33, "float16", "residual"),
        (33, 40, "float32", "residual"),
    ],
)
def test_a_product_is_that_of_numpy(
    build: Callable[..., Any], num_columns: int, depth: int, dtype: str, epilogue: Epilogue
) -> None:
    """For any number of rows, widths that fill no tile, float16 weights, and with a bias or a residual."""
    rng = np.random.default_rng(0)
    kernel = build(packed_matmul(num_columns, depth, dtype, epilogue))
    weight = rng.standard_normal((num_columns, depth)).astype(dtype)
    for num_rows in (1, 2, 3, 7, 8, 13):
        x = rng.standard_normal((1, num_rows, depth), dtype=np.float32)
        shape = (num_columns,) if epilogue == "bias" else (1, num_rows, num_columns)
        added = rng.standard_normal(shape, dtype=np.float32)
        extra = [] if epilogue == "none" else [added]
        y = np.full((1, num_rows, num_columns), np.nan, np.float32)

        kernel(x, pack_tiles16(weight), *extra, y)

        expected = x @ weight.T.astype(np.float32) + (added if extra else 0)
        np.testing.assert_allclose(y, expected, atol=1e-4)

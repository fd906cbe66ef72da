"""Reading rows of a packed embedding table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from mlc_serve.compiler.kernels.cpu.linear.embedding import float_embedding, pairs_embedding
from mlc_serve.quantization.packing import pack


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_rows_come_out_as_they_went_in(build: Callable[..., Any], dtype: str) -> None:
    """The first and the last token of a vocabulary of no whole tiles are read, one of them twice, and widened
    and scaled exactly.
    """
    table = np.random.default_rng(0).standard_normal((101, 20)).astype(dtype)
    ids = np.array([3, 100, 0, 15, 16, 3], np.int32)
    y = np.full((6, 20), np.nan, np.float32)

    build(float_embedding(101, 20, dtype, 0.5))(ids, pack(table, "tiles16"), y)

    np.testing.assert_array_equal(y, table[ids].astype(np.float32) / 2)


def test_rows_of_pairs_come_out_as_they_went_in(build: Callable[..., Any]) -> None:
    """Rows of a table of type bfloat16 and odd width are read and scaled exactly."""
    table = np.random.default_rng(0).standard_normal((101, 21)).astype(ml_dtypes.bfloat16)
    ids = np.array([3, 100, 0, 15, 16, 3], np.int32)
    y = np.full((6, 21), np.nan, np.float32)

    build(pairs_embedding(101, 21, 2.0))(ids, pack(table, "tiles16-pairs"), y)

    np.testing.assert_array_equal(y, table[ids].astype(np.float32) * 2)

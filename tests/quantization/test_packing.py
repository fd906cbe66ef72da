"""Layouts of weights."""

from __future__ import annotations

import numpy as np
import pytest

from mlc_serve.errors import CompileError
from mlc_serve.quantization.packing import pack, tiles16_shape


@pytest.mark.parametrize(("num_columns", "depth"), [(32, 5), (33, 4), (7, 3), (16, 1)])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_tiles_hold_sixteen_columns(num_columns: int, depth: int, dtype: str) -> None:
    """Weight [n, k] lies at [n // 16, k, n % 16], and what is no column is zero."""
    weight = np.random.default_rng(0).standard_normal((num_columns, depth)).astype(dtype)
    packed = pack(weight, "tiles16")
    assert list(packed.shape) == tiles16_shape(num_columns, depth)
    assert packed.dtype == weight.dtype
    rows = packed.transpose(0, 2, 1).reshape(-1, depth)
    np.testing.assert_array_equal(rows[:num_columns], weight)
    assert (rows[num_columns:] == 0).all()


def test_plain_weights_stay_as_they_are() -> None:
    """No copy is made."""
    weight = np.ones((3, 4), np.float32)
    assert pack(weight, "plain") is weight


def test_an_unknown_layout_is_named() -> None:
    """A library of another version may want what this one can't make."""
    with pytest.raises(CompileError, match="layout 'tiles32'"):
        pack(np.ones((3, 4), np.float32), "tiles32")

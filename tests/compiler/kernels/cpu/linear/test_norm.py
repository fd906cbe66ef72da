"""RMS normalization, against its formula."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mlc_serve.compiler.kernels.cpu.linear.norm import rms_norm


@pytest.mark.parametrize("width", [576, 50, 7])
def test_rows_are_normalised_and_scaled(build: Callable[..., Any], width: int) -> None:
    """Each row is normalised on its own, also where its width is no multiple of a vector. A row of zeros
    stays zero.
    """
    rng = np.random.default_rng(0)
    kernel = build(rms_norm(width, 1e-5))
    weight = rng.standard_normal(width, dtype=np.float32)
    for num_rows in (1, 5):
        x = rng.standard_normal((1, num_rows, width), dtype=np.float32) * 3
        x[0, -1] = 0 if num_rows > 1 else x[0, -1]
        y = np.full_like(x, np.nan)

        kernel(x, weight, y)

        expected = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * weight
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)

"""The scale and the soft cap of logits, against their formulas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mlc_serve.compiler.kernels.cpu.linear.logits import soften


@pytest.mark.parametrize("width", [96, 10_001])
@pytest.mark.parametrize("cap", [None, 30.0])
def test_logits_are_scaled_and_capped(build: Callable[..., Any], width: int, cap: float | None) -> None:
    """Every logit is scaled, and then capped if there is a cap, whatever the number of rows and columns. What
    is no number stays none.
    """
    kernel = build(soften(width, 0.5, cap))
    for num_rows in (1, 3, 37):
        x = np.random.default_rng(0).standard_normal((1, num_rows, width), dtype=np.float32) * 100
        y = np.full_like(x, np.inf)
        x[0, -1, -1] = np.nan

        kernel(x, y)

        scaled = x.astype(np.float64) / 2
        expected = scaled if cap is None else cap * np.tanh(scaled / cap)
        np.testing.assert_allclose(y, expected, rtol=1e-6)

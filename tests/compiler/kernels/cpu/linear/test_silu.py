"""The gated activation of an MLP, against its formula."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mlc_serve.compiler.kernels.cpu.linear.silu import silu_multiply


@pytest.mark.parametrize("width", [96, 9])
def test_the_first_half_gates_the_second(build: Callable[..., Any], width: int) -> None:
    """The result is SiLU(gate) * up, also for gates so large that their exponential overflows."""
    rng = np.random.default_rng(0)
    kernel = build(silu_multiply(width))
    for num_rows in (1, 5):
        x = rng.standard_normal((1, num_rows, 2 * width), dtype=np.float32) * 5
        x[0, 0, :3] = (-200, 200, 0)
        y = np.full((1, num_rows, width), np.nan, np.float32)

        kernel(x, y)

        gate, up = x[..., :width].astype(np.float64), x[..., width:]
        np.testing.assert_allclose(y, gate / (1 + np.exp(-gate)) * up, rtol=1e-5, atol=1e-5)

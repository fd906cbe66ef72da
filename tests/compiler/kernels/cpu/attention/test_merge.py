"""Merging two attention results, compared with attention over all keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mlc_serve.compiler.kernels.cpu.attention.merge import merge_attention
from mlc_serve.compiler.kernels.cpu.attention.page_run import MASKED
from tests.compiler.kernels.cpu.attention.reference import attend


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float16", 2e-3)])
@pytest.mark.parametrize("num_rows", [5, 300])
def test_two_parts_are_the_whole(
    build: Callable[..., Any], num_rows: int, dtype: str, tolerance: float
) -> None:
    """Merging attention over two parts of the keys gives attention over all, and an empty part changes
    nothing.
    """
    kernel = build(merge_attention(4, 20, dtype))
    rng = np.random.default_rng(0)
    shapes = ((num_rows, 4), (30, 2), (30, 2))
    q, k, v = (rng.standard_normal((n, h, 20), dtype=np.float32) for n, h in shapes)
    whole, whole_weight = attend(q, k, v, causal=False)
    out, lse = attend(q, k[:7], v[:7], causal=False)
    other, other_weight = attend(q, k[7:], v[7:], causal=False)
    out = out.astype(dtype)

    kernel(out, lse, other.astype(dtype), other_weight)
    np.testing.assert_allclose(out, whole, atol=tolerance)
    np.testing.assert_allclose(lse, whole_weight, atol=1e-5)

    kernel(out, lse, np.zeros_like(out), np.full_like(lse, MASKED))
    np.testing.assert_allclose(out, whole, atol=tolerance)
    np.testing.assert_allclose(lse, whole_weight, atol=1e-5)


def test_two_empty_parts_are_empty(build: Callable[..., Any]) -> None:
    """Merging nothing with nothing gives zero output and no weight, and no NaN."""
    out, lse = np.zeros((1, 2, 8), np.float32), np.full((1, 2), MASKED, np.float32)

    build(merge_attention(2, 8, "float32"))(out, lse, out.copy(), lse.copy())

    assert (out == 0).all()
    assert (lse < MASKED / 2).all()

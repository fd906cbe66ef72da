"""The norm of single heads."""

from __future__ import annotations

import numpy as np
import pytest

from mlc_serve.compiler.kernels.cpu.attention.head_norm import head_norm
from tests.compiler.conftest import Build

EPSILON = 1e-6


@pytest.mark.parametrize("num_rows", [1, 3, 700])  # the last is enough for all threads
@pytest.mark.parametrize(("head_dim", "dtype"), [(16, "float32"), (24, "float32"), (128, "float16")])
def test_queries_and_keys_are_normalised_and_values_are_not(
    build: Build, num_rows: int, head_dim: int, dtype: str
) -> None:
    """Each head is normalised by itself, queries and keys with their own weights; values are only cast."""
    rng = np.random.default_rng(0)
    qkv = rng.standard_normal((1, num_rows, 4 + 2 * 2, head_dim), np.float32)
    q_weight, k_weight = rng.standard_normal((2, head_dim), np.float32)
    result = np.empty_like(qkv, dtype)
    build(head_norm(4, 2, head_dim, EPSILON, dtype))(qkv, q_weight, k_weight, result)
    expected = qkv.astype(np.float64)
    expected[:, :, :6] /= np.sqrt((expected[:, :, :6] ** 2).mean(axis=-1, keepdims=True) + EPSILON)
    expected[:, :, :4] *= q_weight
    expected[:, :, 4:6] *= k_weight
    tolerance = 1e-5 if dtype == "float32" else 1e-3
    np.testing.assert_allclose(result.astype(np.float64), expected, rtol=tolerance, atol=tolerance)

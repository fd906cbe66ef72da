"""The products of latent attention that each head has of its own, against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mlc_serve.compiler.kernels.cpu.attention import head_product
from mlc_serve.compiler.kernels.cpu.attention.latent import latent_queries, latent_values
from mlc_serve.compiler.kernels.cpu.experts.arithmetic import Arithmetic, FloatArithmetic, PairArithmetic
from mlc_serve.compiler.kernels.cpu.primitives.float_unit import FloatUnit
from mlc_serve.models.parts.attention import AttentionLayer
from mlc_serve.models.parts.latent_attention import LatentAttention
from tests.compiler.conftest import Build
from tests.compiler.kernels.cpu.experts.test_mlps import integers, packed
from tests.compiler.kernels.cpu.linear.quantized import EIGHT_BITS, FOUR_BITS

PART = LatentAttention(3, None, 56, 24, 8, 20, (AttentionLayer(None),), 0.1)  # 56 and 20 are no whole tiles
EXACT, HALF, ROUNDED = 1e-5, 2e-3, 0.03  # of the greatest result
KINDS = [
    pytest.param(FloatArithmetic("float32", FloatUnit(2, 8, 16, has_pairs=False)), "float32", EXACT),
    pytest.param(FloatArithmetic("float16", FloatUnit(2, 2, 6, has_pairs=False)), "float16", HALF),
    pytest.param(PairArithmetic(FloatUnit(2, 8, 16, has_pairs=False)), "float32", EXACT),
    pytest.param(integers(EIGHT_BITS), "float32", ROUNDED),
    pytest.param(integers(FOUR_BITS), "float16", ROUNDED),
]
Array = NDArray[Any]


def random(*shape: int) -> Array:
    """Values of about 1."""
    return np.random.default_rng(len(shape)).standard_normal(shape, np.float32)


def assert_close(got: Array, expected: Array, part: float) -> None:
    """Check that an error is a part of the greatest value."""
    assert np.abs(got.astype(np.float64) - expected).max() < part * np.abs(expected).max()


@pytest.mark.parametrize(("arithmetic", "dtype", "error"), KINDS)
@pytest.mark.parametrize("num_rows", [1, 21])
def test_queries_are_multiplied_and_latents_normalised(
    build: Build,
    monkeypatch: pytest.MonkeyPatch,
    arithmetic: Arithmetic,
    dtype: str,
    error: float,
    num_rows: int,
) -> None:
    """What turns is taken as it is, also if the tokens need several passes."""
    monkeypatch.setattr(head_product, "_PASS_BYTES", 16 * 4 * PART.qk_nope_head_dim)
    queries, latents, norm = random(1, num_rows, 3, 32), random(1, num_rows, 64), random(56)
    parts, dense = packed(arithmetic, random(3 * 56, 24), "-experts3")
    got = np.full((1, num_rows, 4, 64), np.nan, dtype)

    build(latent_queries(PART, arithmetic, dtype))(queries, latents, norm, *parts, got)

    assert_close(got[0, :, :3, :8], queries[0, :, :, :8], HALF)
    assert_close(got[0, :, 3, :8], latents[0, :, :8], HALF)
    plain = np.einsum("shn,hcn->shc", queries[0, :, :, 8:], dense.reshape(3, 56, 24))
    assert_close(got[0, :, :3, 8:], plain, error)
    latent = latents[0, :, 8:]
    assert_close(got[0, :, 3, 8:], latent / np.sqrt((latent**2).mean(-1, keepdims=True) + 1e-6) * norm, HALF)


@pytest.mark.parametrize(("arithmetic", "dtype", "error"), KINDS)
@pytest.mark.parametrize("num_rows", [1, 21])
def test_each_head_makes_its_values_of_what_it_found(
    build: Build, arithmetic: Arithmetic, dtype: str, error: float, num_rows: int
) -> None:
    """By a weight of its own."""
    found = random(1, num_rows, 3, 56).astype(dtype)
    parts, dense = packed(arithmetic, random(3 * 20, 56), "-experts3")
    got = np.full((1, num_rows, 3, 20), np.nan, np.float32)

    build(latent_values(PART, arithmetic, dtype))(found, *parts, got)

    assert_close(
        got[0], np.einsum("shc,hvc->shv", found[0].astype(np.float64), dense.reshape(3, 20, 56)), error
    )

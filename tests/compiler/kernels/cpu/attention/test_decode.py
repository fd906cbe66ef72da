"""Attention of one new token per sequence, compared with its definition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mlc_serve.compiler.kernels.cpu.attention.decode import decode_attention
from mlc_serve.compiler.kernels.cpu.attention.heads import Heads
from mlc_serve.compiler.kernels.cpu.attention.pages import append_pages
from mlc_serve.compiler.kernels.cpu.primitives.float_unit import FloatUnit
from tests.compiler.kernels.cpu.attention.reference import attend, paged_keys

LENGTHS = (5, 16, 1, 100, 33, 32, 17)
AVX2, AVX512 = FloatUnit(2, 2, 6, has_pairs=False), FloatUnit(2, 8, 16, has_pairs=False)


@pytest.mark.parametrize(("dtype", "unit", "tolerance"), [("float32", AVX512, 2e-5), ("float16", AVX2, 2e-3)])
@pytest.mark.parametrize(("num_q", "num_kv", "head_dim"), [(9, 3, 64), (4, 4, 16), (8, 1, 48), (2, 2, 128)])
def test_each_sequence_attends_to_its_own_pages(
    build: Callable[..., Any],
    num_q: int,
    num_kv: int,
    head_dim: int,
    dtype: str,
    unit: FloatUnit,
    tolerance: float,
) -> None:
    """Output and log2 weight are right for pages in any order whose unused slots hold NaN, and for an empty
    history.
    """
    kernel = build(decode_attention(Heads(num_q, num_kv, head_dim), dtype, unit))
    cache = paged_keys(LENGTHS, num_kv, head_dim, build(append_pages(num_kv, head_dim, dtype)), dtype)
    batch = len(LENGTHS)
    rng = np.random.default_rng(0)
    q = rng.standard_normal((batch, num_q, head_dim)).astype(dtype)
    unused = np.zeros(batch, np.int32)

    def run(page_indptr: Any) -> tuple[Any, Any]:
        out, lse = np.full_like(q, np.nan), np.full((batch, num_q), np.nan, np.float32)
        table = (page_indptr, cache.page_values, cache.last_page)
        kernel(q, cache.pages, *table, unused, unused, out, lse, 0, 1.0, 1e4, head_dim**-0.5)
        return out, lse

    out, lse = run(cache.page_indptr)
    for b in range(batch):
        expected, weight = attend(q[b : b + 1], cache.keys[b], cache.values[b], causal=False)
        np.testing.assert_allclose(out[b], expected[0], atol=tolerance)
        np.testing.assert_allclose(lse[b], weight[0], atol=2e-5)

    out, lse = run(np.zeros(batch + 1, np.int32))
    assert (out == 0).all()
    assert (lse < -1e4).all()


def test_scores_of_any_size_are_survived(build: Callable[..., Any]) -> None:
    """Scores whose exponentials would overflow float32 do no harm, as the greatest is subtracted first."""
    kernel = build(decode_attention(Heads(2, 1, 16), "float32", AVX2))
    cache = paged_keys((40,), 1, 16, build(append_pages(1, 16, "float32")))
    q = np.random.default_rng(0).standard_normal((1, 2, 16), dtype=np.float32) * 100
    out, lse = np.zeros_like(q), np.zeros((1, 2), np.float32)
    unused = np.zeros(1, np.int32)

    table = (cache.page_indptr, cache.page_values, cache.last_page)
    kernel(q, cache.pages, *table, unused, unused, out, lse, 0, 1.0, 1e4, 0.25)

    expected, weight = attend(q, cache.keys[0], cache.values[0], causal=False)
    np.testing.assert_allclose(out, expected, atol=1e-3)
    np.testing.assert_allclose(lse, weight, rtol=1e-4)


@pytest.mark.parametrize(("start", "sinks"), [(0, 0), (21, 0), (21, 4), (70, 20), (99, 16)])
def test_a_window_and_sinks_are_all_that_is_seen(build: Callable[..., Any], start: int, sinks: int) -> None:
    """Positions between the sinks and the window make no difference."""
    lengths = (100, 130, 3)
    kernel = build(decode_attention(Heads(6, 2, 32), "float32", AVX2, windowed=True))
    cache = paged_keys(lengths, 2, 32, build(append_pages(2, 32, "float32")))
    q = np.random.default_rng(0).standard_normal((3, 6, 32), dtype=np.float32)
    out, lse, unused = np.full_like(q, np.nan), np.full((3, 6), np.nan, np.float32), np.zeros(3, np.int32)
    starts = np.minimum(start, np.array(lengths) - 1)
    length_info = np.stack([cache.last_page, starts, np.full(3, sinks)]).astype(np.int32)

    table = (cache.page_indptr, cache.page_values, length_info)
    kernel(q, cache.pages, *table, unused, unused, out, lse, 0, 1.0, 1e4, 32**-0.5)

    for b, length in enumerate(lengths):
        seen = (np.arange(length) < sinks) | (np.arange(length) >= starts[b])
        expected, weight = attend(q[b : b + 1], cache.keys[b][seen], cache.values[b][seen], causal=False)
        np.testing.assert_allclose(out[b], expected[0], atol=2e-5)
        np.testing.assert_allclose(lse[b], weight[0], atol=2e-5)


@pytest.mark.parametrize("lengths", [(3000,), (260, 90, 200), (1, 5000, 17), (700, 700, 700)])
def test_long_sequences_are_computed_in_parts(build: Callable[..., Any], lengths: tuple[int, ...]) -> None:
    """Parts of one sequence that several threads compute are joined correctly, wherever it was cut."""
    kernel = build(decode_attention(Heads(6, 2, 64), "float32", AVX512))
    cache = paged_keys(lengths, 2, 64, build(append_pages(2, 64, "float32")))
    batch = len(lengths)
    q = np.random.default_rng(0).standard_normal((batch, 6, 64), dtype=np.float32) * 3
    out, lse, unused = np.zeros_like(q), np.zeros((batch, 6), np.float32), np.zeros(batch, np.int32)

    table = (cache.page_indptr, cache.page_values, cache.last_page)
    kernel(q, cache.pages, *table, unused, unused, out, lse, 0, 1.0, 1e4, 64**-0.5)

    for b in range(batch):
        expected, weight = attend(q[b : b + 1], cache.keys[b], cache.values[b], causal=False)
        np.testing.assert_allclose(out[b], expected[0], atol=2e-5)
        np.testing.assert_allclose(lse[b], weight[0], atol=2e-5)

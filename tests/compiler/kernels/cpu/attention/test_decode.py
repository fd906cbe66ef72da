"""Attention of one new token per sequence, compared with its definition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mlc_serve.compiler.kernels.cpu.attention.decode import decode_attention
from mlc_serve.compiler.kernels.cpu.attention.heads import Heads
from mlc_serve.compiler.kernels.cpu.attention.scores import Scores
from mlc_serve.compiler.kernels.cpu.attention.visible import Visible
from mlc_serve.compiler.kernels.cpu.primitives.float_unit import FloatUnit
from tests.compiler.kernels.cpu.attention.reference import (
    PagedKeys,
    Rules,
    attend,
    no_sinks,
    paged_keys,
    paged_latents,
)

LENGTHS = (5, 16, 1, 100, 33, 32, 17)
AVX2, AVX512 = FloatUnit(2, 2, 6, has_pairs=False), FloatUnit(2, 8, 16, has_pairs=False)


def greatest_error(
    kernel: Callable[..., None], q: Any, lengths: tuple[int, ...], num_kv: int, rules: Rules
) -> float:
    """How wrong a kernel is for queries `(b, hq, d)` over random keys of such lengths."""
    head_dim = q.shape[2]
    return error_over(paged_keys(lengths, num_kv, head_dim, q.dtype.name), kernel, q, rules)


def error_over(cache: PagedKeys, kernel: Callable[..., None], q: Any, rules: Rules) -> float:
    """The same for the keys of a cache."""
    num_q = q.shape[1]
    sinks = no_sinks(num_q) if rules.sinks is None else rules.sinks
    expected = np.stack(
        [attend(q[b : b + 1], cache.keys[b], cache.values[b], rules)[0] for b in range(len(q))]
    )
    out = np.full((1, len(q), expected[0].size), np.nan, q.dtype)
    kernel(q, cache.pages, *cache.table, sinks, out)
    return float(np.abs(out.reshape(expected.shape) - expected).max())


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
    """The output is right for pages in any order whose unused slots hold NaN."""
    heads = Heads(num_q, num_kv, head_dim)
    kernel = build(decode_attention(heads, Scores(head_dim**-0.5), Visible(), dtype, unit))
    q = np.random.default_rng(0).standard_normal((len(LENGTHS), num_q, head_dim)).astype(dtype)
    assert greatest_error(kernel, q, LENGTHS, num_kv, Rules()) < tolerance


def test_scores_of_any_size_are_survived(build: Callable[..., Any]) -> None:
    """Scores whose exponentials would overflow float32 do no harm, as the greatest is subtracted first."""
    kernel = build(decode_attention(Heads(2, 1, 16), Scores(0.25), Visible(), "float32", AVX2))
    q = np.random.default_rng(0).standard_normal((1, 2, 16), dtype=np.float32) * 100
    assert greatest_error(kernel, q, (40,), 1, Rules()) < 1e-3


@pytest.mark.parametrize("lengths", [(3000,), (260, 90, 200), (1, 5000, 17), (700, 700, 700)])
def test_long_sequences_are_computed_in_parts(build: Callable[..., Any], lengths: tuple[int, ...]) -> None:
    """Parts of one sequence that several threads compute are joined correctly, wherever it was cut."""
    kernel = build(decode_attention(Heads(6, 2, 64), Scores(0.125), Visible(), "float32", AVX512))
    q = np.random.default_rng(0).standard_normal((len(lengths), 6, 64), dtype=np.float32) * 3
    assert greatest_error(kernel, q, lengths, 2, Rules()) < 2e-5


@pytest.mark.parametrize(("window", "soft_cap"), [(1, None), (40, 5.0), (1000, 5.0)])
@pytest.mark.parametrize("unit", [AVX2, AVX512])
def test_windows_soft_caps_and_sinks_change_what_counts(
    build: Callable[..., Any], window: int, soft_cap: float | None, unit: FloatUnit
) -> None:
    """Keys before the window have no weight, scores are capped, and each head's sink takes its part of the
    weight once, also if a sequence is computed in parts.
    """
    heads, lengths = Heads(6, 2, 64), (3, 40, 41, 900, 3000, 57)
    kernel = build(decode_attention(heads, Scores(0.2, soft_cap), Visible(window), "float32", unit))
    rng = np.random.default_rng(0)
    q = rng.standard_normal((len(lengths), 6, 64), dtype=np.float32) * 2
    sinks = rng.standard_normal(6, dtype=np.float32) * 4
    rules = Rules(scale=0.2, window=window, soft_cap=soft_cap, sinks=sinks)
    assert greatest_error(kernel, q, lengths, 2, rules) < 2e-5


def test_pages_before_the_window_are_not_read(build: Callable[..., Any]) -> None:
    """They may hold anything, even what is no number."""
    heads, window = Heads(2, 1, 16), 20
    kernel = build(decode_attention(heads, Scores(0.25), Visible(window), "float32", AVX2))
    cache = paged_keys((100,), 1, 16)
    cache.pages[cache.page_ids[: (100 - window) // 16]] = np.nan
    q = np.random.default_rng(0).standard_normal((1, 2, 16), dtype=np.float32)
    out = np.full((1, 1, 32), np.nan, np.float32)
    kernel(q, cache.pages, *cache.table, no_sinks(2), out)
    expected = attend(q, cache.keys[0], cache.values[0], Rules(window=window))
    np.testing.assert_allclose(out.reshape(q.shape), expected, atol=2e-5)


@pytest.mark.parametrize(("dtype", "unit", "tolerance"), [("float32", AVX512, 2e-5), ("float16", AVX2, 2e-3)])
@pytest.mark.parametrize("heads", [Heads(16, 1, 40, 24), Heads(5, 1, 160, 128)])
def test_values_may_be_a_part_of_the_keys(
    build: Callable[..., Any], heads: Heads, dtype: str, unit: FloatUnit, tolerance: float
) -> None:
    """In latent attention, pages have keys only, and their last values are the values."""
    kernel = build(decode_attention(heads, Scores(0.1), Visible(), dtype, unit))
    lengths = (*LENGTHS, 3000)
    q = np.random.default_rng(0).standard_normal((len(lengths), heads.num_q, heads.dim)).astype(dtype)
    assert error_over(paged_latents(lengths, heads, dtype), kernel, q, Rules(scale=0.1)) < tolerance


def test_anchors_are_seen_by_the_second_copy_of_the_queries(build: Callable[..., Any]) -> None:
    """Once, whether a sequence is shorter than the anchors, has them within its window, or is computed in
    parts; and a token's own key counts as one of the window.
    """
    heads, visible, lengths = Heads(4, 2, 32), Visible(2500, anchors=20), (1, 3, 20, 21, 2000, 2521, 6000)
    kernel = build(decode_attention(heads, Scores(0.2), visible, "float32", AVX2))
    q = np.random.default_rng(0).standard_normal((len(lengths), 8, 32), dtype=np.float32) * 2
    cache = paged_keys(lengths, 2, 32)
    out = np.full((1, len(lengths), 128), np.nan, np.float32)
    kernel(q, cache.pages, *cache.table, no_sinks(4), out)
    for b, length in enumerate(lengths):
        keys, values = (np.repeat(x[b], 2, 1).astype(np.float64) for x in (cache.keys, cache.values))
        places = np.arange(length)
        is_anchor = places < min(20, length - 1)
        window, first = (np.einsum("hd,mhd->hm", part, keys) * 0.2 for part in (q[b, :4], q[b, 4:]))
        scores = np.where(is_anchor, first, np.where(places >= length - 2500, window, -np.inf))
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        expected = np.einsum("hm,mhd->hd", weights / weights.sum(-1, keepdims=True), values)
        np.testing.assert_allclose(out[0, b].reshape(4, 32), expected, atol=2e-5)

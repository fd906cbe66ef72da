"""Attention of many new tokens, against its definition."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from mlc_serve.compiler.kernels.cpu.pages import append_pages
from mlc_serve.compiler.kernels.cpu.prefill_attention import paged_prefill_attention, ragged_prefill_attention
from tests.compiler.kernels.cpu.reference import attend, indptr, paged_keys

HEADS = [(9, 3, 64), (4, 4, 16), (8, 1, 48), (2, 2, 128), (2, 1, 18)]
NEW_LENGTHS = (5, 16, 1, 100, 33)


@pytest.mark.parametrize(("num_q", "num_kv", "head_dim"), HEADS)
def test_new_tokens_attend_to_those_before_them(
    build: Callable[..., Any], num_q: int, num_kv: int, head_dim: int
) -> None:
    """A ragged batch, causal and not: no token sees another sequence, nor, if causal, its own future."""
    kernel = build(ragged_prefill_attention(num_q, num_kv, head_dim))
    first = indptr(NEW_LENGTHS)
    rng = np.random.default_rng(0)
    q = rng.standard_normal((first[-1], num_q, head_dim), dtype=np.float32)
    k, v = (rng.standard_normal((first[-1], num_kv, head_dim), dtype=np.float32) for _ in range(2))
    unused = (np.zeros(first[-1], np.int32), np.zeros(len(NEW_LENGTHS), np.int32))
    for causal in (True, False):
        out, lse = np.full_like(q, np.nan), np.full((first[-1], num_q), np.nan, np.float32)

        kernel(q, first, k, v, first, *unused, out, lse, int(causal), 0, 1.0, 1e4, head_dim**-0.5)

        for begin, end in pairwise(first):
            rows = slice(begin, end)
            expected, weight = attend(q[rows], k[rows], v[rows], causal=causal)
            np.testing.assert_allclose(out[rows], expected, atol=2e-5)
            np.testing.assert_allclose(lse[rows], weight, atol=2e-5)


@pytest.mark.parametrize(("num_q", "num_kv", "head_dim"), HEADS)
def test_new_tokens_attend_to_pages(
    build: Callable[..., Any], num_q: int, num_kv: int, head_dim: int
) -> None:
    """Histories of all lengths, in pages in any order whose unused slots hold NaN; causal, the new tokens are
    the last of them. An empty history has an output of zero and no weight.
    """
    kernel = build(paged_prefill_attention(num_q, num_kv, head_dim))
    held, new = (5, 16, 1, 100, 33), (5, 1, 1, 40, 7)
    cache = paged_keys(held, num_kv, head_dim, build(append_pages(num_kv, head_dim)))
    first = indptr(new)
    q = np.random.default_rng(0).standard_normal((first[-1], num_q, head_dim), dtype=np.float32)
    unused = (np.zeros(len(new), np.int32), np.zeros(first[-1], np.int32))

    def run(page_indptr: Any, *, causal: bool) -> tuple[Any, Any]:
        out, lse = np.full_like(q, np.nan), np.full((first[-1], num_q), np.nan, np.float32)
        table = (page_indptr, cache.page_values, cache.last_page)
        numbers = (int(causal), 0, 1.0, 1e4, head_dim**-0.5)
        kernel(q, first, cache.pages, *table, *unused, out, lse, *numbers)
        return out, lse

    for causal in (True, False):
        out, lse = run(cache.page_indptr, causal=causal)
        for b in range(len(new)):
            rows = slice(first[b], first[b + 1])
            expected, weight = attend(q[rows], cache.keys[b], cache.values[b], causal=causal)
            np.testing.assert_allclose(out[rows], expected, atol=2e-5)
            np.testing.assert_allclose(lse[rows], weight, atol=2e-5)

    out, lse = run(np.zeros(len(new) + 1, np.int32), causal=False)
    assert (out == 0).all()
    assert (lse < -1e4).all()

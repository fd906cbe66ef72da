"""Attention of many new tokens, compared with its definition."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from mlc_serve.compiler.features import has
from mlc_serve.compiler.kernels.cpu.attention.heads import Heads
from mlc_serve.compiler.kernels.cpu.attention.page_run import MASKED
from mlc_serve.compiler.kernels.cpu.attention.pages import append_pages
from mlc_serve.compiler.kernels.cpu.attention.prefill import (
    encoder_attention,
    paged_prefill_attention,
    ragged_prefill_attention,
)
from mlc_serve.compiler.kernels.cpu.primitives.float_unit import FloatUnit
from mlc_serve.compiler.target import target_for
from tests.compiler.kernels.cpu.attention.reference import attend, indptr, paged_keys

HEADS = [Heads(9, 3, 64), Heads(4, 4, 16), Heads(8, 1, 48), Heads(2, 2, 128), Heads(2, 1, 18)]
NEW_LENGTHS = (5, 16, 1, 100, 33)
bfloat16 = pytest.mark.skipif(not has(target_for("cpu"), "avx512bf16"), reason="no such instructions here")
AVX2, AVX512 = FloatUnit(2, 2, 6, has_pairs=False), FloatUnit(2, 8, 16, has_pairs=False)
AVX512_BF16 = FloatUnit(2, 8, 16, has_pairs=True)
KINDS = [  # with the part of the greatest value that the output may be wrong by
    pytest.param("float32", AVX512, 2e-6, id="float32"),
    pytest.param("float16", AVX2, 5e-4, id="float16"),
    pytest.param("float16", AVX512_BF16, 4e-3, id="bfloat16", marks=bfloat16),
]


def check(got: tuple[Any, Any], expected: tuple[Any, Any], values: Any, unit: FloatUnit, part: float) -> None:
    """Assert that the output is wrong by less than `part` of the greatest value, and that log2 weights are
    close.
    """
    assert np.abs(got[0] - expected[0]).max() < part * np.abs(values.astype(np.float32)).max()
    assert np.abs(got[1] - expected[1]).max() < (2e-2 if unit.has_pairs else 2e-5)


@pytest.mark.parametrize(("dtype", "unit", "part"), KINDS)
@pytest.mark.parametrize("heads", HEADS)
def test_new_tokens_attend_to_those_before_them(
    build: Callable[..., Any], heads: Heads, dtype: str, unit: FloatUnit, part: float
) -> None:
    """In a ragged batch no token sees another sequence, nor, under a causal mask, its own future."""
    kernel = build(ragged_prefill_attention(heads, dtype, unit))
    first = indptr(NEW_LENGTHS)
    rng = np.random.default_rng(0)
    q = rng.standard_normal((first[-1], heads.num_q, heads.dim)).astype(dtype)
    k, v = (rng.standard_normal((first[-1], heads.num_kv, heads.dim)).astype(dtype) for _ in range(2))
    unused = (np.zeros(first[-1], np.int32), np.zeros(len(NEW_LENGTHS), np.int32))
    for causal in (True, False):
        out, lse = np.full_like(q, np.nan), np.full((first[-1], heads.num_q), np.nan, np.float32)

        kernel(q, first, k, v, first, *unused, out, lse, int(causal), 0, 1.0, 1e4, heads.dim**-0.5)

        for begin, end in pairwise(first):
            rows = slice(begin, end)
            expected = attend(q[rows], k[rows], v[rows], causal=causal)
            check((out[rows], lse[rows]), expected, v[rows], unit, part)


@pytest.mark.parametrize("unit", [AVX2, AVX512])
def test_tokens_of_an_encoder_see_all_of_their_sequence(build: Callable[..., Any], unit: FloatUnit) -> None:
    """Those after a token count as well, and those of other sequences do not."""
    heads, first = Heads(3, 3, 32), indptr(NEW_LENGTHS)
    q, k, v = np.random.default_rng(0).standard_normal((3, first[-1], 3, 32)).astype(np.float32)
    out, lse = np.full_like(q, np.nan), np.full((first[-1], 3), np.nan, np.float32)

    build(encoder_attention(heads, unit))(q, k, v, first, out, lse)

    for begin, end in pairwise(first):
        rows = slice(begin, end)
        check((out[rows], lse[rows]), attend(q[rows], k[rows], v[rows], causal=False), v[rows], unit, 2e-6)


@pytest.mark.parametrize(("dtype", "unit", "part"), KINDS)
@pytest.mark.parametrize("heads", HEADS)
def test_new_tokens_attend_to_pages(
    build: Callable[..., Any], heads: Heads, dtype: str, unit: FloatUnit, part: float
) -> None:
    """Output and log2 weight are right for histories of all lengths, in pages in any order whose unused slots
    hold NaN. Under a causal mask the new tokens are the last of the keys. An empty history has zero output
    and no weight.
    """
    kernel = build(paged_prefill_attention(heads, dtype, unit))
    held, new = (5, 16, 1, 100, 33), (5, 1, 1, 40, 7)
    cache = paged_keys(
        held, heads.num_kv, heads.dim, build(append_pages(heads.num_kv, heads.dim, dtype)), dtype
    )
    first = indptr(new)
    q = np.random.default_rng(0).standard_normal((first[-1], heads.num_q, heads.dim)).astype(dtype)
    unused = (np.zeros(len(new), np.int32), np.zeros(first[-1], np.int32))

    def run(page_indptr: Any, *, causal: bool) -> tuple[Any, Any]:
        out, lse = np.full_like(q, np.nan), np.full((first[-1], heads.num_q), np.nan, np.float32)
        table = (page_indptr, cache.page_values, cache.last_page)
        numbers = (int(causal), 0, 1.0, 1e4, heads.dim**-0.5)
        kernel(q, first, cache.pages, *table, *unused, out, lse, *numbers)
        return out, lse

    for causal in (True, False):
        out, lse = run(cache.page_indptr, causal=causal)
        for b in range(len(new)):
            rows = slice(first[b], first[b + 1])
            expected = attend(q[rows], cache.keys[b], cache.values[b], causal=causal)
            check((out[rows], lse[rows]), expected, cache.values[b], unit, part)

    out, lse = run(np.zeros(len(new) + 1, np.int32), causal=False)
    assert (out == 0).all()
    assert (lse < -1e4).all()


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("starts", "sinks"), [((0, 0, 0), 0), ((1, 61, 300), 0), ((2, 90, 150), 20)])
def test_new_tokens_attend_to_a_window_of_what_came_before(
    build: Callable[..., Any], starts: tuple[int, ...], sinks: int, causal: bool
) -> None:
    """New tokens see the sinks and the positions in the sequence's window. Under a causal mask, each token
    has its own window.
    """
    window, held, new = 48, (5, 100, 333), (7, 1, 60)
    heads = Heads(6, 2, 32)
    kernel = build(paged_prefill_attention(heads, "float32", AVX2, window=window))
    cache = paged_keys(held, heads.num_kv, heads.dim, build(append_pages(heads.num_kv, heads.dim, "float32")))
    first = indptr(new)
    q = np.random.default_rng(0).standard_normal((first[-1], heads.num_q, heads.dim), dtype=np.float32)
    out, lse = np.full_like(q, np.nan), np.full((first[-1], heads.num_q), np.nan, np.float32)
    length_info = np.array([cache.last_page, starts, [sinks] * 3], np.int32)
    unused = (np.zeros(3, np.int32), np.zeros(first[-1], np.int32))

    table = (cache.page_indptr, cache.page_values, length_info)
    kernel(q, first, cache.pages, *table, *unused, out, lse, int(causal), 0, 1.0, 1e4, heads.dim**-0.5)

    for b, row in ((sequence, row) for sequence in range(3) for row in range(new[sequence])):
        positions, own_start = np.arange(held[b]), held[b] - max(window - 1 - row, 0) if causal else 0
        seen = (positions < sinks) | (positions >= max(starts[b], own_start))
        got = out[first[b] + row][None], lse[first[b] + row][None]
        if not seen.any():
            assert (got[1] < MASKED / 2).all()
            continue
        expected = attend(q[first[b] + row][None], cache.keys[b][seen], cache.values[b][seen], causal=False)
        check(got, expected, cache.values[b], AVX2, 2e-6)

"""Attention of many new tokens, compared with its definition."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from mlc_serve.compiler.features import has
from mlc_serve.compiler.kernels.cpu.attention.heads import Heads
from mlc_serve.compiler.kernels.cpu.attention.prefill import encoder_attention, prefill_attention
from mlc_serve.compiler.kernels.cpu.attention.scores import Scores
from mlc_serve.compiler.kernels.cpu.attention.visible import Visible
from mlc_serve.compiler.kernels.cpu.primitives.float_unit import FloatUnit
from mlc_serve.compiler.target import target_for
from tests.compiler.kernels.cpu.attention.reference import (
    Rules,
    attend,
    indptr,
    no_sinks,
    paged_keys,
    paged_latents,
)

HEADS = [
    Heads(9, 3, 64),
    Heads(4, 4, 16),
    Heads(8, 1, 48),
    Heads(2, 2, 128),
    Heads(2, 1, 18),
    Heads(6, 1, 40, 24),
    Heads(16, 1, 320, 288),
]
NEW_LENGTHS = (5, 16, 1, 100, 33)
bfloat16 = pytest.mark.skipif(not has(target_for("cpu"), "avx512bf16"), reason="no such instructions here")
AVX2, AVX512 = FloatUnit(2, 2, 6, has_pairs=False), FloatUnit(2, 8, 16, has_pairs=False)
AVX512_BF16 = FloatUnit(2, 8, 16, has_pairs=True)
KINDS = [  # with the part of the greatest value that the output may be wrong by
    pytest.param("float32", AVX512, 2e-6, id="float32"),
    pytest.param("float16", AVX2, 5e-4, id="float16"),
    pytest.param("float16", AVX512_BF16, 4e-3, id="bfloat16", marks=bfloat16),
]


@pytest.mark.parametrize("unit", [AVX2, AVX512])
def test_tokens_of_an_encoder_see_all_of_their_sequence(build: Callable[..., Any], unit: FloatUnit) -> None:
    """Those after a token count as well, and those of other sequences do not."""
    heads, first = Heads(3, 3, 32), indptr(NEW_LENGTHS)
    q, k, v = np.random.default_rng(0).standard_normal((3, first[-1], 3, 32)).astype(np.float32)
    out = np.full((1, first[-1], 3 * 32), np.nan, np.float32)

    build(encoder_attention(heads, unit))(q, k, v, first, out)

    for begin, end in pairwise(first):
        rows = slice(begin, end)
        expected = attend(q[rows], k[rows], v[rows], Rules(causal=False))
        assert np.abs(out[0, rows].reshape(expected.shape) - expected).max() < 2e-6 * np.abs(v).max()


def greatest_error(
    kernel: Callable[..., None],
    heads: Heads,
    lengths: dict[int, int],
    rules: Rules,
    dtype: str = "float32",
) -> float:
    """How wrong a kernel is, by the greatest value, for random sequences of so many keys with so many new
    tokens, and for tables that are longer than the batch.
    """
    held, new = tuple(lengths), tuple(lengths.values())
    cache = (
        paged_keys(held, heads.num_kv, heads.dim, dtype)
        if heads.latent is None
        else paged_latents(held, heads, dtype)
    )
    first = indptr(new)
    q = np.random.default_rng(0).standard_normal((first[-1], heads.num_q, heads.dim)).astype(dtype)
    out = np.full((1, first[-1], heads.num_q * heads.value_dim), np.nan, dtype)
    sinks = no_sinks(heads.num_q) if rules.sinks is None else rules.sinks
    table = [np.append(part, np.int32(1)) for part in (first, *cache.table)]
    kernel(q, cache.pages, np.array([len(new)], np.int32), *table, sinks, out)
    errors = []
    for b, (start, end) in enumerate(pairwise(first)):
        expected = attend(q[start:end], cache.keys[b], cache.values[b], rules)
        errors.append(np.abs(out[0, start:end].reshape(expected.shape) - expected).max())
    return float(max(errors) / max(np.abs(values.astype(np.float32)).max() for values in cache.values))


@pytest.mark.parametrize(("dtype", "unit", "part"), KINDS)
@pytest.mark.parametrize("heads", HEADS)
def test_new_tokens_attend_to_those_before_them(
    build: Callable[..., Any], heads: Heads, dtype: str, unit: FloatUnit, part: float
) -> None:
    """No token sees another sequence nor its own future, in pages in any order whose unused slots hold NaN,
    whether all keys are new, or only some, or only the last; also if values are a part of the keys.
    """
    kernel = build(prefill_attention(heads, Scores(heads.dim**-0.5), Visible(), dtype, unit))
    lengths = {5: 5, 16: 1, 1: 1, 100: 40, 33: 7, 90: 90, 120: 18, 250: 17}
    assert greatest_error(kernel, heads, lengths, Rules(), dtype) < part


@pytest.mark.parametrize(("window", "soft_cap"), [(1, None), (48, None), (70, 5.0), (1000, 5.0)])
@pytest.mark.parametrize("unit", [AVX2, AVX512])
def test_windows_soft_caps_and_sinks_change_what_counts(
    build: Callable[..., Any], window: int, soft_cap: float | None, unit: FloatUnit
) -> None:
    """Each token has a window of its own, also in chunks that are longer than the window and among sequences
    with a single new token. Scores are capped, and each head's sink takes its part of the weight.
    """
    heads = Heads(6, 2, 32)
    kernel = build(prefill_attention(heads, Scores(0.3, soft_cap), Visible(window), "float32", unit))
    sinks = np.random.default_rng(1).standard_normal(6).astype(np.float32) * 4
    rules = Rules(scale=0.3, window=window, soft_cap=soft_cap, sinks=sinks)
    lengths = {5: 5, 100: 1, 333: 60, 300: 300, 7: 1, 64: 64}
    assert greatest_error(kernel, heads, lengths, rules) < 5e-6

"""Attention of a few new tokens per sequence, compared with decodes that compute them one at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from mlc_serve.compiler.features import has
from mlc_serve.compiler.kernels.cpu.attention.decode import decode_attention
from mlc_serve.compiler.kernels.cpu.attention.few_rows import MOST_FEW
from mlc_serve.compiler.kernels.cpu.attention.heads import Heads
from mlc_serve.compiler.kernels.cpu.attention.prefill import prefill_attention
from mlc_serve.compiler.kernels.cpu.attention.scores import Scores
from mlc_serve.compiler.kernels.cpu.attention.visible import Visible
from mlc_serve.compiler.kernels.cpu.primitives.float_unit import FloatUnit
from mlc_serve.compiler.target import target_for
from tests.compiler.kernels.cpu.attention.reference import (
    Floats,
    PagedKeys,
    indptr,
    paged_keys,
    paged_latents,
)

EVERYTHING = Visible()
AVX2, AVX512 = FloatUnit(2, 2, 6, has_pairs=False), FloatUnit(2, 8, 16, has_pairs=False)


@dataclass(frozen=True)
class Case:
    """A kind of attention, and the CPU that its kernels are compiled for: None is this machine."""

    heads: Heads
    visible: Visible = EVERYTHING
    soft_cap: float | None = None
    dtype: str = "float32"
    unit: FloatUnit = AVX512
    mcpu: str | None = None

    @property
    def kind(self) -> Any:
        return self.heads, Scores(0.2, self.soft_cap), self.visible, self.dtype, self.unit

    @property
    def sinks(self) -> Floats:
        return np.random.default_rng(1).standard_normal(self.heads.num_q).astype(np.float32) * 4

    def queries(self, num_rows: int) -> Floats:
        shape = num_rows, self.heads.num_q * self.visible.copies, self.heads.dim
        return (np.random.default_rng(0).standard_normal(shape) * 2).astype(self.dtype)

    def result(self, num_rows: int) -> Floats:
        return np.full((1, num_rows, self.heads.num_q * self.heads.value_dim), np.nan, self.dtype)

    def cache(self, lengths: tuple[int, ...]) -> PagedKeys:
        if self.heads.latent is not None:
            return paged_latents(lengths, self.heads, self.dtype)
        return paged_keys(lengths, self.heads.num_kv, self.heads.dim, self.dtype)


haswell = pytest.mark.skipif(not has(target_for("cpu"), "avx2"), reason="its code doesn't run here")
CASES = [
    pytest.param(
        Case(Heads(4, 4, 16), Visible(40), 5.0, unit=AVX2, mcpu="haswell"), id="AVX2", marks=haswell
    ),
    pytest.param(Case(Heads(6, 2, 32), Visible(200, anchors=20), dtype="float16"), id="anchors in float16"),
    pytest.param(Case(Heads(16, 1, 40, 24)), id="latents"),
]


@dataclass
class Both:
    """The kernels of a case that take one new token of a sequence, and any number."""

    case: Case
    decode: Callable[..., None]
    prefill: Callable[..., None]

    def rows(self, cache: PagedKeys, queries: Floats, num_new: tuple[int, ...]) -> Floats:
        """The results of the last tokens of the sequences in one pass."""
        out = self.case.result(len(queries))
        head = queries, cache.pages, np.array([len(num_new)], np.int32), indptr(num_new)
        self.prefill(*head, *cache.table, self.case.sinks, out)
        results: Floats = out[0]
        return results

    def decoded(self, cache: PagedKeys, queries: Floats, num_later: tuple[int, ...]) -> Floats:
        """The results of one token of each sequence, which so many others follow, in a decode."""
        out = self.case.result(len(queries))
        first, listed, lengths = cache.table
        table = first, listed, (lengths - np.array(num_later)).astype(np.int32)
        self.decode(queries, cache.pages, *table, self.case.sinks, out)
        results: Floats = out[0]
        return results


@pytest.fixture(scope="module", params=CASES)
def both(request: pytest.FixtureRequest, build_for: Callable[..., Any]) -> Both:
    """Both kernels of each case."""
    case: Case = request.param
    build = build_for(target_for("cpu") if case.mcpu is None else target_for("cpu", case.mcpu))
    return Both(case, build(decode_attention(*case.kind)), build(prefill_attention(*case.kind)))


@pytest.mark.parametrize("length", [8, 18, 100, 275, 3000])
@pytest.mark.parametrize("num_new", [2, 5, 8, MOST_FEW])
def test_each_new_token_gets_what_a_decode_gives_it(both: Both, length: int, num_new: int) -> None:
    """To the last bit, also across the border of a page and where a sequence is cut into parts; so drafts
    change nothing in the output of a sequence that runs alone.
    """
    num_new = min(num_new, length)
    cache, queries = both.case.cache((length,)), both.case.queries(num_new)
    found = both.rows(cache, queries, (num_new,))
    for n in range(num_new):
        expected = both.decoded(cache, queries[n : n + 1], (num_new - 1 - n,))
        np.testing.assert_array_equal(found[n], expected[0])


def test_the_first_tokens_of_a_batch_get_what_a_decode_of_the_batch_gives_them(both: Both) -> None:
    """To the last bit, whatever numbers of drafts follow them, so that drafts of one sequence change nothing
    in the output of another.
    """
    lengths, num_new = (300, 40, 17, 900, 5), (3, 1, 8, 1, 5)
    cache, queries = both.case.cache(lengths), both.case.queries(sum(num_new))
    first = indptr(num_new)[:-1]
    expected = both.decoded(cache, queries[first], tuple(count - 1 for count in num_new))
    np.testing.assert_array_equal(both.rows(cache, queries, num_new)[first], expected)


def test_few_tokens_beside_many_get_what_they_get_without_those(both: Both) -> None:
    """To the last bit: a prompt that is computed in the same pass changes nothing in the output of others."""
    lengths, num_new = (700, 17, 120, 60), (4, MOST_FEW + 1, 90, MOST_FEW)
    cache, queries = both.case.cache(lengths), both.case.queries(sum(num_new))
    first = indptr(num_new)[:-1]
    few = [b for b, count in enumerate(num_new) if count <= MOST_FEW]
    later = tuple(num_new[b] - 1 for b in few)
    alone = part_of(cache, few)
    found = both.rows(cache, queries, num_new)[first[few]]
    np.testing.assert_array_equal(found, both.decoded(alone, queries[first[few]], later))


def part_of(cache: PagedKeys, sequences: list[int]) -> PagedKeys:
    """Some sequences of a cache."""
    ids = [cache.page_ids[cache.first_pages[b] : cache.first_pages[b + 1]] for b in sequences]
    keys, first_pages = [cache.keys[b] for b in sequences], indptr([len(one) for one in ids])
    return replace(cache, keys=keys, first_pages=first_pages, page_ids=np.concatenate(ids))

"""Keys and values that are written to pages can be read from them, even after they were moved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mlc_serve.compiler.kernels.cpu.attention.pages import append_pages, compact_pages, copy_page, read_pages
from tests.compiler.kernels.cpu.attention.reference import PAGE_SIZE, PagedKeys, paged_keys

NUM_HEADS, HEAD_DIM, NUM_LAYERS = 3, 20, 2
Read = Callable[[Any, Any], tuple[Any, Any]]


@pytest.fixture(params=["float32", "float16"])
def dtype(request: pytest.FixtureRequest) -> str:
    """The type of keys and values."""
    return str(request.param)


@pytest.fixture
def cache(build: Callable[..., Any], dtype: str) -> PagedKeys:
    """Pages with two sequences."""
    append = build(append_pages(NUM_HEADS, HEAD_DIM, dtype))
    return paged_keys((21, 5), NUM_HEADS, HEAD_DIM, append, dtype)


@pytest.fixture
def read(build: Callable[..., Any], dtype: str) -> Read:
    """A function that reads K and V `(s, hkv, d)` at slots, into the second of two layers."""
    kernel = build(read_pages(NUM_LAYERS, NUM_HEADS, HEAD_DIM, dtype))

    def call(pages: Any, slots: Any) -> tuple[Any, Any]:
        k, v = (np.full((NUM_LAYERS, len(slots), NUM_HEADS, HEAD_DIM), np.nan, dtype) for _ in range(2))
        kernel(pages, np.asarray(slots, np.int32), k, v, 1)
        assert np.isnan(k[0]).all()
        assert np.isnan(v[0]).all()
        return k[1], v[1]

    return call


def test_appended_tokens_are_read_back(cache: PagedKeys, read: Read) -> None:
    """Keys and values come from their slots; slots that nothing was written to keep what they held."""
    k, v = read(cache.pages, cache.slots)
    np.testing.assert_array_equal(k, np.concatenate(cache.keys))
    np.testing.assert_array_equal(v, np.concatenate(cache.values))
    others = np.setdiff1d(np.arange(len(cache.pages) * PAGE_SIZE), cache.slots)
    assert all(np.isnan(part).all() for part in read(cache.pages, others))


def test_slot_minus_one_is_skipped(build: Callable[..., Any], dtype: str, cache: PagedKeys) -> None:
    """Tokens that only pad a batch are not written."""
    before = cache.pages.copy()
    token = np.ones((2, NUM_HEADS, HEAD_DIM), dtype)

    build(append_pages(NUM_HEADS, HEAD_DIM, dtype))(cache.pages, token, token, np.full(2, -1, np.int32))

    np.testing.assert_array_equal(cache.pages, before)


def test_a_copied_page_holds_the_same(
    build: Callable[..., Any], dtype: str, cache: PagedKeys, read: Read
) -> None:
    """A copy has the positions that are asked for at the same places, and no other page changes."""
    source = int(cache.page_values[0])
    target = int(np.setdiff1d(np.arange(len(cache.pages)), cache.page_values)[0])
    before = cache.pages.copy()

    build(copy_page(NUM_HEADS, HEAD_DIM, dtype))(cache.pages, source, target, 7)

    copied, original = (read(cache.pages, page * PAGE_SIZE + np.arange(7)) for page in (target, source))
    np.testing.assert_array_equal(copied, original)
    rest = np.arange(len(before)) != target
    np.testing.assert_array_equal(cache.pages[rest], before[rest])


def test_kept_positions_move_together(
    build: Callable[..., Any], dtype: str, cache: PagedKeys, read: Read
) -> None:
    """The accepted positions of each sequence's draft are moved, in order, to follow one another."""
    slots = cache.slots
    sources, targets = [3, 5, 19, 24], [2, 3, 5, 22]
    moves = np.stack([slots[sources], slots[targets]]).astype(np.int32)

    build(compact_pages(NUM_HEADS, HEAD_DIM, dtype))(cache.pages, np.array([0, 3, 4], np.int32), moves, 2)

    k, v = np.concatenate(cache.keys), np.concatenate(cache.values)
    k[targets], v[targets] = k[sources], v[sources]
    np.testing.assert_array_equal(read(cache.pages, slots), (k, v))

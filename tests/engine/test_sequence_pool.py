"""SequencePool: its ids, and pages that are counted before the cache fills them."""

from __future__ import annotations

import random

import pytest

from mlc_serve.engine.sequence_pool import SequencePool
from mlc_serve.testing import FakeKVCache, FakeWindowedState


def grow(pool: SequencePool, kv: FakeKVCache, seq_id: int, num_tokens: int) -> None:
    """Plan tokens, and store them."""
    pool.grow(seq_id, num_tokens)
    kv.append(seq_id, [0] * num_tokens)


def test_the_smallest_free_id_is_used_again() -> None:
    """Ids stay small: a released one is the next to be taken."""
    pool = SequencePool(FakeKVCache(4, 16))
    assert [pool.add() for _ in range(3)] == [0, 1, 2]
    pool.release(1)
    pool.release(0)
    assert [pool.add() for _ in range(3)] == [0, 1, 3]


def test_pages_are_counted_when_they_are_planned() -> None:
    """A planned page is no longer free, although the cache has not filled it."""
    kv = FakeKVCache(4, 16)
    pool = SequencePool(kv)
    seq_id = pool.add()
    pool.grow(seq_id, 5)
    assert (pool.num_free_pages, kv.num_free_pages) == (14, 16)
    assert pool.num_new_pages(seq_id, 8) == 0
    assert pool.num_new_pages(seq_id, 9) == 1


def test_more_pages_than_are_free_are_refused() -> None:
    """A plan that would overfill the cache raises RuntimeError, and nothing is counted."""
    pool = SequencePool(FakeKVCache(4, 2))
    seq_id = pool.add()
    with pytest.raises(RuntimeError, match="3 pages"):
        pool.grow(seq_id, 9)
    assert pool.num_free_pages == 2


def test_shared_pages_are_counted_once() -> None:
    """A fork takes no page, and shared pages become free with their last holder."""
    kv = FakeKVCache(4, 16)
    pool = SequencePool(kv)
    parent = pool.add()
    grow(pool, kv, parent, 10)
    child = pool.fork(parent, 8)
    assert pool.num_free_pages == 13
    pool.release(parent)
    assert pool.num_free_pages == kv.num_free_pages == 14
    pool.release(child)
    assert pool.num_free_pages == kv.num_free_pages == 16


def test_unpinned_pages_can_be_had_back() -> None:
    """Pages of unpinned sequences count as available unless a pinned one shares them."""
    kv = FakeKVCache(4, 16)
    pool = SequencePool(kv)
    parent = pool.add()
    grow(pool, kv, parent, 12)
    pool.unpin(parent)
    assert (pool.num_free_pages, pool.num_unpinned_pages) == (13, 16)
    assert pool.num_pinned_by_fork(parent, 8) == 2
    pool.fork(parent, 8)
    assert (pool.num_free_pages, pool.num_unpinned_pages) == (13, 14)
    assert pool.num_pinned_by_fork(parent, 12) == 1


@pytest.mark.parametrize("seed", range(20))
def test_the_count_is_the_caches_own(seed: int) -> None:
    """After any adds, forks, growth, imports and releases, the pool and the cache have the same number of
    free pages.
    """
    rng = random.Random(seed)
    kv = FakeKVCache(4, 200)
    pool = SequencePool(kv)
    pinned: list[int] = []
    for _ in range(100):
        action = rng.choice(["add", "fork", "grow", "copy", "release", "unpin"])
        if action == "add":
            pinned.append(pool.add())
        elif pinned:
            seq_id = rng.choice(pinned)
            length = kv.num_tokens(seq_id) // 4 * 4
            if action == "fork" and length:
                pinned.append(pool.fork(seq_id, rng.randrange(4, length + 1, 4)))
            elif action == "grow" and pool.num_free_pages > 3:
                grow(pool, kv, seq_id, rng.randint(1, 9))
            elif action == "copy" and 0 < length <= 4 * pool.num_free_pages:
                pinned.append(pool.add())
                pool.import_pages(pinned[-1], pool.export_pages(seq_id, 0, length))
            elif action in ("release", "unpin"):
                pinned.remove(seq_id)
                pool.release(seq_id) if action == "release" else pool.unpin(seq_id)
        assert pool.num_free_pages == kv.num_free_pages
    for seq_id in pinned:
        pool.release(seq_id)
    pool.check_idle()
    assert pool.num_unpinned_pages == 200


def test_imported_pages_are_counted() -> None:
    """A sequence that goes on with another's pages takes pages of its own, is pinned, and holds the same."""
    kv = FakeKVCache(4, 16)
    pool = SequencePool(kv)
    source = pool.add()
    grow(pool, kv, source, 13)
    pages = pool.export_pages(source, 0, 12)
    target = pool.fork(source, 4)
    pool.import_pages(target, pages.part(4, 12))
    assert pool.num_free_pages == kv.num_free_pages == 16 - 4 - 2
    assert pool.num_new_pages(target, 12) == 0
    assert kv.token_ids(target) == kv.token_ids(source)[:12]
    pool.release(source)
    assert (pool.num_free_pages, pool.num_unpinned_pages) == (13, 13)
    pool.release(target)
    pool.check_idle()


@pytest.mark.parametrize(("start", "stop"), [(0, 3), (2, 4), (4, 4), (8, 4), (-4, 4), (0, 12)])
def test_only_whole_pages_of_a_sequence_can_be_exported(start: int, stop: int) -> None:
    """A range that is not within the sequence, or not of whole pages, is a RuntimeError."""
    kv = FakeKVCache(4, 16)
    pool = SequencePool(kv)
    seq_id = pool.add()
    grow(pool, kv, seq_id, 9)
    with pytest.raises(RuntimeError, match="there are no pages"):
        pool.export_pages(seq_id, start, stop)


def test_pages_that_do_not_fit_are_refused() -> None:
    """Pages of another layout, from another position or more than are free change nothing."""
    kv, other = FakeKVCache(4, 4), FakeKVCache(8, 4)
    pool, foreign = SequencePool(kv), SequencePool(other)
    source, target = pool.add(), pool.add()
    grow(pool, kv, source, 12)
    grow(foreign, other, foreign.add(), 8)
    for pages, told in (
        (foreign.export_pages(0, 0, 8), "don't fit"),
        (pool.export_pages(source, 4, 8), "don't fit"),
        (pool.export_pages(source, 0, 8), "2 pages were planned"),
    ):
        with pytest.raises(RuntimeError, match=told):
            pool.import_pages(target, pages)
    assert (pool.num_free_pages, kv.num_tokens(target)) == (1, 0)
    pool.import_pages(target, pool.export_pages(source, 0, 4))
    assert pool.num_free_pages == kv.num_free_pages == 0


def test_a_window_can_not_be_exported() -> None:
    """A state that does not keep all of a sequence has no layout."""
    pool = SequencePool(FakeWindowedState(4, 16, window=8))
    seq_id = pool.add()
    pool.grow(seq_id, 4)
    assert pool.layout is None
    with pytest.raises(RuntimeError, match="there are no pages"):
        pool.export_pages(seq_id, 0, 4)


def test_a_held_sequence_is_noticed_when_idle() -> None:
    """`check_idle` names the sequences that should have been released."""
    pool = SequencePool(FakeKVCache(4, 16))
    pool.add()
    with pytest.raises(RuntimeError, match=r"\[0\]"):
        pool.check_idle()


def test_clear_frees_all() -> None:
    """After clear all pages are free and ids start from 0."""
    kv = FakeKVCache(4, 16)
    pool = SequencePool(kv)
    grow(pool, kv, pool.add(), 9)
    pool.clear()
    pool.check_idle()
    assert pool.num_free_pages == 16
    assert pool.add() == 0

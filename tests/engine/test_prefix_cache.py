"""RadixPrefixCache: what it keeps, finds, and evicts first."""

from __future__ import annotations

import pytest

from mlc_serve.engine.prefix_cache import NoPrefixCache, PrefixCache, RadixPrefixCache
from mlc_serve.engine.radix_tree import PrefixMatch
from mlc_serve.engine.request import Request
from mlc_serve.engine.sequence_pool import SequencePool
from mlc_serve.testing import FakeKVCache
from tests.engine.bench import Bench, spec


class Kept:
    """A cache over pages of 4 tokens, and requests that have computed their prompt."""

    def __init__(self, max_recycled: int | None = None) -> None:
        self.kv = FakeKVCache(4, 64)
        self.pool = SequencePool(self.kv)
        self.cache: PrefixCache = RadixPrefixCache(self.pool, max_recycled)

    def computed(self, prompt: bytes, namespace: str = "") -> Request:
        """Return a running request whose prompt is in the cache."""
        asked = spec("a", prompt, namespace=namespace)
        request = Request(asked, max_length=64, seq_id=self.pool.add(), num_computed=len(prompt))
        self.pool.grow(request.held_seq_id, len(prompt))
        self.kv.append(request.held_seq_id, prompt)
        self.cache.record(request)
        return request

    def recycled(self, prompt: bytes) -> int:
        """Return the sequence of a request that has ended."""
        request = self.computed(prompt)
        self.cache.recycle(request)
        return request.held_seq_id

    def length(self, prompt: bytes, namespace: str = "") -> int:
        """Return how many tokens of a prompt are found."""
        match = self.cache.match(prompt, namespace)
        return match.length if match else 0


def test_a_running_sequence_is_found() -> None:
    """Other requests find the whole pages of a running request as soon as they are computed."""
    kept = Kept()
    request = kept.computed(b"0123456789")
    assert kept.cache.match(b"0123456789", "") == PrefixMatch(8, request.held_seq_id)


def test_namespaces_share_nothing_but_the_order_of_eviction() -> None:
    """Equal prompts are kept once per namespace, and the least recently used sequence of all namespaces is
    evicted first.
    """
    kept = Kept()
    request = kept.computed(b"01234567", "mine")
    assert (kept.length(b"01234567", "mine"), kept.length(b"01234567", "yours")) == (8, 0)
    waiting = Request(spec("b", b"0123456789", namespace="yours"), max_length=64)
    assert not kept.cache.shares_more(waiting, request, 0)
    kept.cache.recycle(request)
    kept.cache.recycle(kept.computed(b"01234567", "yours"))
    assert kept.cache.evict()
    assert (kept.length(b"01234567", "mine"), kept.length(b"01234567", "yours")) == (0, 8)
    assert kept.cache.evict()
    assert kept.kv.num_free_pages == 64


def test_only_computed_pages_are_found() -> None:
    """Tokens are found once the page that they are in is computed."""
    kept = Kept()
    request = Request(spec("a", b"0123456789"), max_length=64, seq_id=kept.pool.add())
    found = []
    for num_computed in (3, 4, 7, 9):
        request.num_computed = num_computed
        kept.cache.record(request)
        found.append(kept.length(b"0123456789"))
    assert found == [0, 4, 4, 8]


def test_a_discarded_sequence_is_not_found() -> None:
    """A preempted request's pages are free and its tokens forgotten."""
    kept = Kept()
    kept.cache.discard(kept.computed(b"01234567"))
    assert kept.length(b"01234567") == 0
    assert kept.kv.num_free_pages == 64


def test_the_least_recently_used_goes_first() -> None:
    """Eviction follows the order of last use, and a hit is a use."""
    kept = Kept()
    first = kept.recycled(b"aaaa")
    kept.recycled(b"bbbb")
    kept.recycled(b"cccc")
    kept.cache.touch(first)
    gone = []
    while kept.cache.evict():
        gone += [
            prompt for prompt in (b"aaaa", b"bbbb", b"cccc") if prompt not in gone and not kept.length(prompt)
        ]
    assert gone == [b"bbbb", b"cccc", b"aaaa"]
    assert kept.kv.num_free_pages == 64


def test_eviction_spares_running_sequences() -> None:
    """The sequence of a running request is not evicted, even if it was touched."""
    kept = Kept()
    request = kept.computed(b"aaaa")
    kept.cache.touch(request.held_seq_id)
    assert not kept.cache.evict()
    assert kept.length(b"aaaa") == 4


@pytest.mark.parametrize(("max_recycled", "found"), [(0, 0), (1, 4), (2, 8), (None, 12)])
def test_max_recycled_bounds_what_is_kept(max_recycled: int | None, found: int) -> None:
    """Of three ended requests the last 0, 1, 2 or all are kept."""
    kept = Kept(max_recycled)
    for prompt in (b"aaaa", b"bbbb", b"cccc"):
        kept.recycled(prompt)
    assert sum(kept.length(prompt) for prompt in (b"aaaa", b"bbbb", b"cccc")) == found
    assert kept.length(b"cccc") == (4 if found else 0)


def test_a_sequence_that_offers_nothing_new_is_not_kept() -> None:
    """Of two equal sequences one is kept; a sequence shorter than a page is not kept."""
    kept = Kept()
    kept.recycled(b"01234567")
    kept.recycled(b"01234567 ")
    kept.recycled(b"0123")
    kept.recycled(b"xyz")
    assert kept.kv.seq_ids == {0}


def test_shareable_is_counted_in_pages_and_without_the_last_token() -> None:
    """A request can reuse whole pages of another's prompt, but never its own last token."""
    kept = Kept()
    other = kept.computed(b"01234567")
    for prompt, shareable in {
        b"01234567": 4,
        b"012345678": 8,
        b"0123456x9": 4,
        b"x": 0,
        b"x1234567": 0,
    }.items():
        request = Request(spec("a", prompt), 64)
        more = [length for length in (0, 4, 8) if kept.cache.shares_more(request, other, length)]
        assert len(more) == shareable // 4


def test_nothing_is_shared_after_a_difference() -> None:
    """A page that is equal but follows a different beginning is not shared."""
    kept = Kept()
    other = kept.computed(b"0123456789")
    assert not kept.cache.shares_more(Request(spec("a", b"x123456789"), 64), other, 4)


def test_clear_forgets_all() -> None:
    """After clear nothing is found and nothing is left to evict."""
    kept = Kept()
    kept.recycled(b"aaaa")
    kept.pool.clear()
    kept.cache.clear()
    assert kept.length(b"aaaa") == 0
    assert not kept.cache.evict()


def test_no_prefix_cache_keeps_nothing() -> None:
    """Without a prefix cache, an ended request's pages are free, and nothing is found or shared."""
    kept = Kept()
    kept.cache = NoPrefixCache(kept.pool)
    request = kept.computed(b"01234567")
    assert kept.length(b"01234567") == 0
    assert not kept.cache.shares_more(request, request, 0)
    kept.cache.touch(request.held_seq_id)
    kept.cache.recycle(request)
    assert kept.kv.num_free_pages == 64
    assert not kept.cache.evict()


def test_the_next_turn_of_a_conversation_is_a_hit() -> None:
    """A prompt that continues an earlier prompt and its reply computes only the new tokens."""
    bench = Bench()
    bench.submit("a", b"how are you?", max_tokens=9)
    bench.finish()
    turn = [*b"how are you?", *bench.output("a"), *b" fine"]
    bench.submit("b", turn)
    bench.finish()
    assert bench.num_cached("b") == 20

"""Decides which computed tokens are kept for later requests, and which are evicted when pages are needed.

A cached prefix is the beginning of a live sequence, which belongs to a running request or was recycled when
its request ended. A request finds only prefixes of its own namespace; pages and the order of eviction are
shared by all namespaces. What is recycled is offered to a store, at the latest when it is evicted. Owns the
radix tree and the order of eviction; runs on the engine's thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from mlc_serve.engine.prefix_store import Prefix, PrefixStore
from mlc_serve.engine.radix_tree import PrefixMatch, RadixTree
from mlc_serve.engine.request import Request
from mlc_serve.engine.sequence_pool import SequencePool


class PrefixCache(Protocol):
    """What the scheduler asks of a prefix cache."""

    def match(self, token_ids: Sequence[int], namespace: str) -> PrefixMatch | None:
        """Return the longest prefix of the tokens, in whole pages, that a live sequence of the namespace
        holds, or None.
        """

    def touch(self, seq_id: int) -> None:
        """Mark a sequence as just used, so that it is evicted after those that were used before."""

    def shares_more(self, request: Request, other: Request, length: int) -> bool:
        """Return whether the request could reuse more than its first `length` tokens once the prompt of
        `other` is computed. `length` is a multiple of the page size.
        """

    def record(self, request: Request) -> None:
        """Offer the cache the pages that a running request has computed."""

    def recycle(self, request: Request) -> None:
        """Take over the sequence of a request that ended, to keep or to release it."""

    def discard(self, request: Request) -> None:
        """Release the sequence of a request that will be computed again."""

    def evict(self) -> bool:
        """Release the least recently used recycled sequence, or a parked one if there is no other; return
        False if there is none.
        """

    def make_room(self, seq_id: int, num_tokens: int) -> int:
        """Release recycled sequences, but nothing that is parked, until `num_tokens` can be appended to a
        sequence that is pinned or parked. Return how many of them can.
        """

    def adopt(self, seq_id: int, prefix: Prefix, forked_from: int | None) -> None:
        """Take over a pinned sequence of a whole number of pages that no request computed, to keep it as a
        recycled one. If it was forked from a recycled sequence that it covers now, release that.
        """

    def offer_next(self) -> bool:
        """Offer the store a part of what it has not been offered yet, in the order of eviction. Return False
        if there is nothing left.
        """

    def clear(self) -> None:
        """Forget everything, and what the store has. The caller has already cleared the sequence pool."""


@dataclass(eq=False)
class ParkedPrefix:
    """A sequence that no request runs on, kept for one that is to come or until it has been copied.

    `is_lost` says that its pages were needed more urgently; there is no such sequence then.
    """

    seq_id: int
    is_lost: bool = False


class RadixPrefixCache:
    """Finds prefixes in a radix tree and evicts the least recently used sequence first.

    `max_recycled` bounds the number of recycled sequences; None means that only the pages bound it. If there
    is a `store`, it is offered what is recycled. Parked sequences are evicted only when there are no others.
    """

    def __init__(
        self, pool: SequencePool, max_recycled: int | None, store: PrefixStore | None = None
    ) -> None:
        self._pool = pool
        self._max_recycled = max_recycled
        self._store = store
        self._tree = RadixTree(pool.page_size)
        self._num_recorded: dict[int, int] = {}
        self._recycled: dict[int, None] = {}
        self._num_offered: dict[int, int] = {}
        self._parked: dict[ParkedPrefix, None] = {}

    def match(self, token_ids: Sequence[int], namespace: str) -> PrefixMatch | None:
        """See PrefixCache.match."""
        return self._tree.match(token_ids, namespace)

    def touch(self, seq_id: int) -> None:
        """See PrefixCache.touch. Does nothing for the sequence of a running request: it can't be evicted."""
        if seq_id in self._recycled:
            del self._recycled[seq_id]
            self._recycled[seq_id] = None

    def shares_more(self, request: Request, other: Request, length: int) -> bool:
        """See PrefixCache.shares_more. Compares one more page, and never the request's last token."""
        if request.spec.cache_namespace != other.spec.cache_namespace:
            return False
        mine, theirs = request.spec.prompt_ids, other.spec.prompt_ids
        stop = length + self._pool.page_size
        has_page = stop <= min(len(mine) - 1, len(theirs))
        return has_page and mine[length:stop] == theirs[length:stop] and mine[:length] == theirs[:length]

    def record(self, request: Request) -> None:
        """See PrefixCache.record. Does nothing unless another page is full."""
        seq_id = request.held_seq_id
        start = self._num_recorded.get(seq_id, 0)
        stop = request.num_computed - request.num_computed % self._pool.page_size
        if stop == start:
            return
        token_ids = request.known_ids(start, stop)
        if start:
            self._tree.extend(seq_id, token_ids)
        else:
            self._tree.insert(seq_id, token_ids, request.spec.cache_namespace)
        self._num_recorded[seq_id] = stop

    def recycle(self, request: Request) -> None:
        """See PrefixCache.recycle. Releases a sequence whose whole pages another one holds as well."""
        self._pool.unpin(request.held_seq_id)
        self._keep(request.held_seq_id)

    def adopt(self, seq_id: int, prefix: Prefix, forked_from: int | None) -> None:
        """See PrefixCache.adopt."""
        self._pool.unpin(seq_id)
        self._tree.insert(seq_id, prefix.token_ids, prefix.namespace)
        self._num_recorded[seq_id] = len(prefix.token_ids)
        if forked_from in self._recycled and self._tree.is_covered(forked_from):
            del self._recycled[forked_from]
            self._release(forked_from)
        self._keep(seq_id)

    def discard(self, request: Request) -> None:
        """See PrefixCache.discard."""
        self._release(request.held_seq_id)

    def evict(self) -> bool:
        """See PrefixCache.evict."""
        if self.evict_recycled():
            return True
        parked = next(iter(self._parked), None)
        if parked is None:
            return False
        del self._parked[parked]
        parked.is_lost = True
        self._release(parked.seq_id)
        return True

    def make_room(self, seq_id: int, num_tokens: int) -> int:
        """See PrefixCache.make_room."""
        while self._pool.room(seq_id) < num_tokens and self.evict_recycled():
            pass
        return min(num_tokens, self._pool.room(seq_id))

    def evict_recycled(self) -> bool:
        """Do the same as `evict`, but release nothing that is parked."""
        if not self._recycled:
            return False
        seq_id = next(iter(self._recycled))
        self._offer(seq_id, 0, is_last=True)
        del self._recycled[seq_id]
        self._release(seq_id)
        return True

    def offer_next(self) -> bool:
        """See PrefixCache.offer_next."""
        for seq_id in self._recycled if self._store is not None else ():
            done = self._num_offered.get(seq_id, 0)
            if done < self._num_recorded[seq_id]:
                self._num_offered[seq_id] = self._offer(seq_id, done, is_last=False)
                return True
        return False

    def _offer(self, seq_id: int, start: int, *, is_last: bool) -> int:
        """Offer the store a sequence from a position on, and return the position up to which it has it. What
        another sequence covers is offered with that one.
        """
        if self._store is None or self._tree.is_covered(seq_id):
            return self._num_recorded[seq_id]
        prefix, export = Prefix(*self._tree.tokens_of(seq_id)), partial(self._pool.export_pages, seq_id)
        return self._store.offer(prefix, export, start, is_last=is_last)

    def clear(self) -> None:
        """See PrefixCache.clear."""
        if self._store is not None:
            self._store.clear()
        self._tree.clear()
        self._num_recorded.clear()
        self._num_offered.clear()
        self._recycled.clear()
        for parked in self._parked:
            parked.is_lost = True
        self._parked.clear()

    def park(self, seq_id: int) -> ParkedPrefix:
        """Keep a pinned sequence that no request runs on. It may grow, and requests don't find it yet."""
        self._pool.unpin(seq_id)
        parked = ParkedPrefix(seq_id)
        self._parked[parked] = None
        return parked

    def show(self, parked: ParkedPrefix, token_ids: Sequence[int], namespace: str) -> None:
        """Let requests find a parked sequence by its tokens, which fill whole pages. It grows no more."""
        self._tree.insert(parked.seq_id, token_ids, namespace)
        self._num_recorded[parked.seq_id] = len(token_ids)

    def unpark(self, parked: ParkedPrefix) -> None:
        """Keep a parked sequence no longer than other recycled ones, and release it if requests don't find
        it. Does nothing if it is lost.
        """
        if not parked.is_lost:
            del self._parked[parked]
            self._keep(parked.seq_id)

    @property
    def parked_ids(self) -> Iterable[int]:
        """The ids of the parked sequences."""
        return (parked.seq_id for parked in self._parked)

    def _keep(self, seq_id: int) -> None:
        """Keep a sequence that no request runs on, unless another one has its whole pages as well."""
        if seq_id not in self._tree or self._tree.is_covered(seq_id):
            self._release(seq_id)
            return
        self._recycled[seq_id] = None
        if self._max_recycled is not None and len(self._recycled) > self._max_recycled:
            self.evict_recycled()

    def _release(self, seq_id: int) -> None:
        self._num_offered.pop(seq_id, None)
        if self._num_recorded.pop(seq_id, 0):
            self._tree.remove(seq_id)
        self._pool.release(seq_id)


class NoPrefixCache:
    """Keeps nothing and finds nothing: every request computes all of its tokens."""

    def __init__(self, pool: SequencePool) -> None:
        self._pool = pool

    def match(self, token_ids: Sequence[int], namespace: str) -> PrefixMatch | None:  # noqa: ARG002 - the interface's
        """See PrefixCache.match. Returns None."""
        return None

    def touch(self, seq_id: int) -> None:
        """See PrefixCache.touch. Does nothing."""

    def shares_more(self, request: Request, other: Request, length: int) -> bool:  # noqa: ARG002 - the interface's
        """See PrefixCache.shares_more. Returns False."""
        return False

    def record(self, request: Request) -> None:
        """See PrefixCache.record. Does nothing."""

    def recycle(self, request: Request) -> None:
        """See PrefixCache.recycle. Releases the sequence."""
        self.discard(request)

    def discard(self, request: Request) -> None:
        """See PrefixCache.discard."""
        self._pool.release(request.held_seq_id)

    def evict(self) -> bool:
        """See PrefixCache.evict. Returns False."""
        return False

    def make_room(self, seq_id: int, num_tokens: int) -> int:
        """See PrefixCache.make_room. There is nothing to release."""
        return min(num_tokens, self._pool.room(seq_id))

    def adopt(self, seq_id: int, prefix: Prefix, forked_from: int | None) -> None:  # noqa: ARG002 - the interface's
        """See PrefixCache.adopt. Releases the sequence."""
        self._pool.release(seq_id)

    def offer_next(self) -> bool:
        """See PrefixCache.offer_next. There is nothing to offer."""
        return False

    def clear(self) -> None:
        """See PrefixCache.clear. Does nothing."""

"""Brings computed prefixes into the prefix cache from elsewhere, and offers those that it has to a store.

Called between steps, on the engine's thread. No request is involved: what is brought in belongs to the
prefix cache at once, as if a request had computed it and ended.
"""

from __future__ import annotations

from mlc_serve.engine.prefix_cache import PrefixCache
from mlc_serve.engine.prefix_store import Prefix
from mlc_serve.engine.sequence_pages import SequencePages
from mlc_serve.engine.sequence_pool import SequencePool


class PrefixMoves:
    """Moves prefixes in and out of one engine's memory."""

    def __init__(self, pool: SequencePool, cache: PrefixCache) -> None:
        self._pool = pool
        self._cache = cache

    def length(self, prefix: Prefix) -> int:
        """Return how many of the tokens are cached, in whole pages."""
        hit = self._cache.match(prefix.token_ids, prefix.namespace)
        return hit.length if hit else 0

    def bring_in(self, prefix: Prefix, pages: SequencePages) -> int:
        """Append pages of the prefix to what is cached of it, and return how many of its tokens are cached
        then.

        Nothing changes if the pages do not follow what is cached, if they add nothing to it, or if their
        layout is another one. Recycled sequences are evicted to make room; if there is still too little, only
        the first pages are taken.
        """
        known = prefix.token_ids[: pages.stop]
        hit = self._cache.match(prefix.token_ids, prefix.namespace)
        held = hit.length if hit else 0
        fits = pages.layout == self._pool.layout and len(known) == pages.stop
        if not (fits and pages.start <= held < pages.stop):
            return held
        seq_id = self._pool.fork(hit.seq_id, held) if hit else self._pool.add()
        stop = self._stop_of(seq_id, held, pages.stop)
        if stop == held:
            self._pool.release(seq_id)
            return held
        self._pool.import_pages(seq_id, pages.part(held, stop))
        self._cache.adopt(seq_id, Prefix(prefix.namespace, known[:stop]), hit.seq_id if hit else None)
        return stop

    def _stop_of(self, seq_id: int, held: int, wanted: int) -> int:
        """Evict until a sequence of `held` tokens has room to grow to `wanted`, and return how far it can."""
        num_fitting = self._cache.make_room(seq_id, wanted - held)
        return held + num_fitting // self._pool.page_size * self._pool.page_size

    def offer_next(self) -> bool:
        """Offer the prefix cache's store a part of what it lacks. Return False if there is nothing left."""
        return self._cache.offer_next()

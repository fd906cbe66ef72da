"""Decides whether a waiting request may start: whether a sequence and enough pages are left for it.

A later request may take the pages that the first in line waits for, but each request is passed over at most
once. Runs on the engine's thread; it starts no request, and writes only `was_passed_over`.
"""

from __future__ import annotations

from collections.abc import Sequence

from mlc_serve.engine.prefix_cache import PrefixCache
from mlc_serve.engine.radix_tree import PrefixMatch
from mlc_serve.engine.request import Request
from mlc_serve.engine.sequence_pool import SequencePool


class Admission:
    """Allows at most `max_running` requests to run at a time."""

    def __init__(self, max_running: int, pool: SequencePool, cache: PrefixCache) -> None:
        self._max_running = max_running
        self._pool = pool
        self._cache = cache

    def match(self, request: Request) -> PrefixMatch | None:
        """Return the longest cached prefix of a request's tokens, or None.

        The prefix never includes the last token, because its logits have to be computed.
        """
        if not request.may_reuse_prefix:
            return None
        return self._cache.match(request.known_ids(0, request.num_tokens - 1), request.spec.cache_namespace)

    def is_held_back(self, request: Request, hit: PrefixMatch | None, running: Sequence[Request]) -> bool:
        """Return whether a running request is about to compute more of the same prompt than is cached now."""
        if not request.may_reuse_prefix:
            return False
        cached = hit.length if hit else 0
        prefilling = [other for other in running if not other.is_prompt_computed]
        return any(self._cache.shares_more(request, other, cached) for other in prefilling)

    def may_start(
        self, request: Request, hit: PrefixMatch | None, running: Sequence[Request], first: Request
    ) -> bool:
        """Return whether a waiting request may start now. `first` is the first in line.

        All tokens that it knows and one page to grow must fit beside what the running requests still have to
        compute. Unless it is `first` itself, there must also be room for `first`, or `first` is passed over.
        The latter sets `first.was_passed_over`, because it may happen only once.
        """
        num_pages = self._num_pages_owed(running) + self._num_pages_wanted(request, hit)
        if not self._has_room(len(running) + 1, num_pages):
            return False
        if request is first:
            return True
        if self._has_room(len(running) + 2, num_pages + self._num_pages_wanted(first, None)):
            return True
        is_passed_over, first.was_passed_over = first.was_passed_over, True
        return not is_passed_over

    def _has_room(self, num_running: int, num_pages: int) -> bool:
        """Return whether `num_running` requests may run with `num_pages` more pages than are pinned now."""
        return num_running <= self._max_running and num_pages <= self._pool.num_unpinned_pages

    def _num_pages_wanted(self, request: Request, hit: PrefixMatch | None) -> int:
        """Return how many of the unpinned pages a waiting request would pin."""
        length = min(request.num_tokens + self._pool.page_size, request.max_length)
        num_pages = self._pool.num_pages_of(length)
        if hit is None:
            return num_pages
        pinned = self._pool.num_pinned_by_fork(hit.seq_id, hit.length)
        return num_pages + pinned - self._pool.num_pages_of(hit.length)

    def _num_pages_owed(self, running: Sequence[Request]) -> int:
        """Return how many more pages the running requests need for the tokens they know."""
        return sum(self._pool.num_new_pages(request.held_seq_id, request.num_tokens) for request in running)

"""Whether a waiting request may start: are there a sequence and pages, for it and for the first in line.

A request that waits for such a place sees a later one get it instead once at most. Runs on the engine's
thread; starts nothing, and writes no more than that a request gave way.
"""

from __future__ import annotations

from collections.abc import Sequence

from mlc_serve.engine.prefix_cache import PrefixCache
from mlc_serve.engine.radix_tree import PrefixMatch
from mlc_serve.engine.request import Request
from mlc_serve.engine.sequence_pool import SequencePool


class Admission:
    """Answers for the requests that run at the time, at most `max_running`."""

    def __init__(self, max_running: int, pool: SequencePool, cache: PrefixCache) -> None:
        self._max_running = max_running
        self._pool = pool
        self._cache = cache

    def match(self, request: Request) -> PrefixMatch | None:
        """The cached beginning of a request's tokens, less the last one: its logits are needed."""
        if not request.may_reuse_prefix:
            return None
        return self._cache.match(request.known_ids(0, request.num_tokens - 1), request.spec.cache_namespace)

    def is_held_back(self, request: Request, hit: PrefixMatch | None, running: Sequence[Request]) -> bool:
        """Whether a running request is about to compute more of the same prompt than is cached now."""
        if not request.may_reuse_prefix:
            return False
        cached = hit.length if hit else 0
        prefilling = [other for other in running if not other.is_prompt_computed]
        return any(self._cache.shares_more(request, other, cached) for other in prefilling)

    def may_start(
        self, request: Request, hit: PrefixMatch | None, running: Sequence[Request], first: Request
    ) -> bool:
        """Whether there is a place that the first in line does not need as well, or gives up.

        All known tokens and a page to grow must fit, beside what the running requests still have to compute.
        That the first gives way is noted, for it does so once.
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
        """Whether so many may run, with so many pages more than are held for those that do."""
        return num_running <= self._max_running and num_pages <= self._pool.num_unpinned_pages

    def _num_pages_wanted(self, request: Request, hit: PrefixMatch | None) -> int:
        """Pages that a waiting request would take from what can be had."""
        length = min(request.num_tokens + self._pool.page_size, request.max_length)
        num_pages = self._pool.num_pages_of(length)
        if hit is None:
            return num_pages
        pinned = self._pool.num_pinned_by_fork(hit.seq_id, hit.length)
        return num_pages + pinned - self._pool.num_pages_of(hit.length)

    def _num_pages_owed(self, running: Sequence[Request]) -> int:
        """Pages that the running requests lack for the tokens they know."""
        return sum(self._pool.num_new_pages(request.held_seq_id, request.num_tokens) for request in running)

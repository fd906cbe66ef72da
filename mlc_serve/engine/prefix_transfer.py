"""Moves computed prefixes between this engine and others, between steps and in bounded portions.

A prefix that is to be sent, or is being received, is parked in the prefix cache: it has no request, takes
pages only as they come, and is evicted when nothing else is left to evict. So running requests always go on,
and a prefix that is lost is simply computed again. Runs on the engine's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlc_serve.engine.policy import Policy
from mlc_serve.engine.prefix_cache import ParkedPrefix, RadixPrefixCache
from mlc_serve.engine.request import Request
from mlc_serve.engine.sequence_pages import PageLayout, SequencePages
from mlc_serve.engine.sequence_pool import SequencePool
from mlc_serve.engine.transfer_metrics import TransferMetrics
from mlc_serve.errors import KVCacheFullError


@dataclass(eq=False)
class ReceivedPrefix:
    """A prefix that is to be here: the first whole pages of a prompt, `token_ids`.

    `num_matched` of them were found in the prefix cache, and the first `num_here` are here so far.
    `num_pages` are promised to the request that will begin with it, those of the prefix included.
    """

    token_ids: Sequence[int]
    namespace: str
    num_pages: int
    num_matched: int
    num_here: int
    parked: ParkedPrefix

    @property
    def is_whole(self) -> bool:
        """Whether all tokens are here."""
        return self.num_here == len(self.token_ids)


class PrefixTransfer:
    """`observe` is called after every change of who holds which pages."""

    def __init__(
        self,
        pool: SequencePool,
        cache: RadixPrefixCache,
        policy: Policy,
        metrics: TransferMetrics,
        observe: Callable[[], None],
    ) -> None:
        if pool.layout is None:
            raise ValueError("the state of these sequences can't be copied")
        self.layout: PageLayout = pool.layout
        self._pool = pool
        self._cache = cache
        self._policy = policy
        self._metrics = metrics
        self._observe = observe
        self._promised: dict[ReceivedPrefix, None] = {}

    # Receiving -----------------------------------------------------------------------------------------

    def reserve(self, token_ids: Sequence[int], namespace: str, max_length: int) -> ReceivedPrefix:
        """Park what is cached of a prefix of whole pages, and promise the pages of a request that begins with
        it and has up to `max_length` tokens. Raises KVCacheFullError if they may be needed by others.
        """
        match = self._cache.match(token_ids, namespace)
        num_matched = match.length if match else 0
        seq_id = self._pool.fork(match.seq_id, num_matched) if match else self._pool.add()
        prefix = ReceivedPrefix(
            token_ids,
            namespace,
            self._pool.num_pages_of(max_length),
            num_matched,
            num_matched,
            self._cache.park(seq_id),
        )
        self._promised[prefix] = None
        self._show_if_whole(prefix)
        num_short = self._num_pages_short()
        if num_short > 0:
            self.let_go(prefix)
            raise KVCacheFullError(
                f"The KV cache has {num_short} pages too few for this request; try again later."
            )
        self._observe()
        return prefix

    def append(self, prefix: ReceivedPrefix, data: memoryview | bytes) -> None:
        """Append whole pages to a prefix, no more than it lacks.

        Raises KVCacheFullError if there are not enough free pages, or if the prefix is lost. Raises
        ValueError for anything but whole pages.
        """
        pages = SequencePages(self.layout, prefix.num_here, data)
        if pages.stop > len(prefix.token_ids):
            raise ValueError(f"{pages.num_tokens} tokens are more than the prefix lacks")
        _require_kept(prefix.parked)
        if self._cache.make_room(prefix.parked.seq_id, pages.num_tokens) < pages.num_tokens:
            raise KVCacheFullError("The KV cache is full of running requests; try again later.")
        self._pool.import_pages(prefix.parked.seq_id, pages)
        prefix.num_here = pages.stop
        self._metrics.received(pages.num_tokens)
        self._show_if_whole(prefix)
        self._observe()

    def redeem(self, prefix: ReceivedPrefix) -> None:
        """Promise no more pages: the request has begun, and is admitted like any other."""
        self._promised.pop(prefix, None)

    def let_go(self, prefix: ReceivedPrefix) -> None:
        """Keep a prefix no longer than others in the prefix cache if it is whole, and drop it otherwise."""
        self.redeem(prefix)
        self._cache.unpark(prefix.parked)
        self._observe()

    # Sending ---------------------------------------------------------------------------------------------

    def hold(self, token_ids: Sequence[int], namespace: str) -> ParkedPrefix | None:
        """Keep these tokens, which fill whole pages, until `release`. Returns None if not all are cached."""
        match = self._cache.match(token_ids, namespace)
        if match is None or match.length < len(token_ids):
            return None
        return self._cache.park(self._pool.fork(match.seq_id, match.length))

    def export(self, parked: ParkedPrefix, start: int, stop: int) -> SequencePages:
        """Return a copy of the pages with the tokens at positions [start, stop) of a prefix.

        Raises KVCacheFullError if the prefix is lost.
        """
        _require_kept(parked)
        pages = self._pool.export_pages(parked.seq_id, start, stop)
        self._metrics.sent(pages.num_tokens)
        return pages

    def release(self, parked: ParkedPrefix) -> None:
        """End what `hold` has begun."""
        self._cache.unpark(parked)
        self._observe()

    def reset(self) -> None:
        """Forget all promises. The caller has already cleared the pool and the prefix cache."""
        self._promised.clear()

    def _show_if_whole(self, prefix: ReceivedPrefix) -> None:
        if prefix.is_whole and prefix.token_ids:
            self._cache.show(prefix.parked, prefix.token_ids, prefix.namespace)

    def _num_pages_short(self) -> int:
        """Return how many pages are missing for what is parked and promised, beside running requests with a
        page to grow for each. It is not positive if none are.
        """
        promised = sum(prefix.num_pages - self._num_pages_here(prefix) for prefix in self._promised)
        running = sum(self._num_pages_owed(request) for request in self._policy.running)
        num_left = self._pool.num_unpinned_pages - promised - running
        parked = list(self._cache.parked_ids)
        # Counting pages that several share only once takes long if there are many, and is seldom needed.
        if sum(map(self._pool.num_pages_held, parked)) <= num_left:
            return 0
        return self._pool.num_unpinned_pages_of(parked) - num_left

    def _num_pages_here(self, prefix: ReceivedPrefix) -> int:
        return 0 if prefix.parked.is_lost else self._pool.num_pages_of(prefix.num_here)

    def _num_pages_owed(self, request: Request) -> int:
        length = min(request.num_tokens + self._pool.page_size, request.max_length)
        return self._pool.num_new_pages(request.held_seq_id, length)


def _require_kept(parked: ParkedPrefix) -> None:
    if parked.is_lost:
        raise KVCacheFullError("The prefix had to make room for running requests; try again later.")

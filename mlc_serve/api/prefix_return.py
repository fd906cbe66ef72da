"""Brings prefixes back that the prefix cache has evicted, before the requests that need them are submitted.

event loop                           threads of the store        engine's thread
around:  what is stored? ──────────> length                      between two steps
         what is cached? ──────────────────────────────────────> PrefixMoves.length
         the missing pages,  ──────> read
         piece by piece      ──────────────────────────────────> PrefixMoves.bring_in
         the request is submitted, and ends
         what is not stored, ──────────────────────────────────> PrefixMoves.offer_next
         piece by piece      ──────> write
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from typing import Protocol, TypeVar

from mlc_serve.api.ahead import Ahead, Budget
from mlc_serve.engine.core import EngineCore
from mlc_serve.engine.loop import EngineLoop
from mlc_serve.engine.prefix_store import Prefix
from mlc_serve.engine.sequence_pages import SequencePages
from mlc_serve.errors import EngineDeadError
from mlc_serve.spill.file_store import FileStore

T = TypeVar("T")
logger = logging.getLogger(__name__)

# How many bytes are read, and copied to the engine's memory, at a time. Copying takes about ten milliseconds.
_PIECE_BYTES = 32 << 20
# A request is submitted without what takes longer than this to read, and nothing is read for a while then.
_READ_SECONDS = 10.0
_PAUSE_SECONDS = 60.0


class PrefixReturn(Protocol):
    """What is done about prefixes outside of the engine's memory."""

    def around(self, prompts: Sequence[Sequence[int]], namespace: str) -> AbstractAsyncContextManager[Ahead]:
        """Bring what is stored of prompts into the prefix cache, before the context is entered in which they
        are submitted. The room that this has taken is released when the context is left, or before.
        """

    async def save(self, seconds: float) -> None:
        """Store all prefixes that are kept, as far as this time allows. No request may be open."""

    def end(self) -> None:
        """Read and write no more. Any thread may call this."""


class NothingReturns:
    """Implements PrefixReturn where nothing is stored."""

    @asynccontextmanager
    async def around(
        self,
        prompts: Sequence[Sequence[int]],  # noqa: ARG002 - the interface's
        namespace: str,  # noqa: ARG002
    ) -> AsyncIterator[Ahead]:
        """See PrefixReturn. Takes no room."""
        yield Ahead(Budget(0))

    async def save(self, seconds: float) -> None:
        """See PrefixReturn. Does nothing."""

    def end(self) -> None:
        """See PrefixReturn. Does nothing."""


class StoredPrefixes:
    """Implements PrefixReturn with a store.

    At most `most_ahead` tokens are brought back for requests that have not begun, because under a heavy load
    prefixes would push each other out before they are used. A request beyond that computes its prompt.
    """

    def __init__(self, store: FileStore, loop: EngineLoop, most_ahead: int) -> None:
        self._store = store
        self._loop = loop
        self._budget = Budget(most_ahead)
        self._storing: asyncio.Task[None] | None = None
        self._paused_until = 0.0  # time.monotonic() seconds
        self._piece = max(store.layout.num_tokens_in(_PIECE_BYTES), store.layout.page_size)

    @asynccontextmanager
    async def around(self, prompts: Sequence[Sequence[int]], namespace: str) -> AsyncIterator[Ahead]:
        """See PrefixReturn. What the request leaves is stored while others run, so that little is left to do
        when it is evicted, or when the process ends.
        """
        ahead = Ahead(self._budget)
        try:
            await self._bring_all_back(prompts, namespace, ahead)
            yield ahead
        finally:
            ahead.release()
            if self._storing is None or self._storing.done():
                self._storing = asyncio.create_task(self._store_all())

    async def _bring_all_back(self, prompts: Sequence[Sequence[int]], namespace: str, ahead: Ahead) -> None:
        """Bring back prefixes, without the last token of a prompt, which is computed in any case."""
        if time.monotonic() < self._paused_until:
            return
        prefixes = dict.fromkeys(Prefix(namespace, tuple(prompt[:-1])) for prompt in prompts)
        try:
            async with asyncio.timeout(_READ_SECONDS):
                for prefix in prefixes:
                    if self._store.may_have(prefix):
                        await self._bring_back(prefix, ahead)
        except TimeoutError:
            self._paused_until = time.monotonic() + _PAUSE_SECONDS
            logger.warning(
                "reading a prefix took longer than %g s; prompts are computed for %g s",
                _READ_SECONDS,
                _PAUSE_SECONDS,
            )
        except EngineDeadError:  # the caller finds out when it submits the request
            pass

    async def _bring_back(self, prefix: Prefix, ahead: Ahead) -> None:
        stored = await asyncio.wrap_future(self._store.length(prefix))
        held = await self._between_steps(lambda core: core.prefixes.length(prefix)) if stored else 0
        if held < stored and ahead.add(stored - held):
            self._store.metrics.hits.inc()
            await self._bring_pieces(prefix, held, stored)

    async def _bring_pieces(self, prefix: Prefix, start: int, stop: int) -> None:
        """Bring the pages of the tokens at positions [start, stop) in, up to one that is missing or for which
        there is no room.
        """
        while start < stop:
            end = min(start + self._piece, stop)
            pages = await asyncio.wrap_future(self._store.read(prefix, start, end))
            if pages is None:
                return
            held = await self._between_steps(partial(_bring_in, prefix, pages))
            self._store.metrics.returned.inc(max(held - start, 0))
            if held < end:
                return
            start = held

    async def _store_all(self) -> None:
        """Store what is kept, piece by piece. Ends early if the disk takes nothing."""
        with suppress(EngineDeadError):
            is_left = True
            while is_left:
                is_left = await self._between_steps(lambda core: core.prefixes.offer_next())
                if not await asyncio.wrap_future(self._store.flushed()):
                    return

    async def save(self, seconds: float) -> None:
        """See PrefixReturn."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._store_all(), seconds)

    async def _between_steps(self, call: Callable[[EngineCore], T]) -> T:
        return await asyncio.wrap_future(self._loop.call(call))

    def end(self) -> None:
        """See PrefixReturn."""
        self._store.end()


def _bring_in(prefix: Prefix, pages: SequencePages, core: EngineCore) -> int:
    return core.prefixes.bring_in(prefix, pages)

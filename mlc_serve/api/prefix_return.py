"""Brings prefixes back that the prefix cache has evicted, before the requests that need them are submitted.

event loop                           threads of the store        engine's thread
bring_back: what is stored? ───────> length                      between two steps
            what is cached? ───────────────────────────────────> PrefixMoves.length
            the missing pages,  ───> read
            piece by piece      ───────────────────────────────> PrefixMoves.bring_in
the request is submitted
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
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
# A request is submitted without what takes longer than this to read.
_READ_SECONDS = 10.0


class PrefixReturn(Protocol):
    """What is done about prefixes outside of the engine's memory."""

    async def bring_back(self, prompts: Sequence[Sequence[int]], namespace: str) -> Ahead:
        """Bring what is stored of prompts into the prefix cache, and return the room that this has taken."""

    async def save(self, seconds: float) -> None:
        """Store the recycled prefixes, as far as that is possible in this time. No request may be open."""

    def end(self) -> None:
        """Read and write no more. Any thread may call this."""


class NothingReturns:
    """Implements PrefixReturn where nothing is stored."""

    def __init__(self) -> None:
        self._nothing = Ahead(Budget(0))

    async def bring_back(self, prompts: Sequence[Sequence[int]], namespace: str) -> Ahead:  # noqa: ARG002 - the interface's
        """See PrefixReturn. Takes no room."""
        return self._nothing

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
        self._piece = max(store.layout.num_tokens_in(_PIECE_BYTES), store.layout.page_size)

    async def bring_back(self, prompts: Sequence[Sequence[int]], namespace: str) -> Ahead:
        """See PrefixReturn. The last token of a prompt is left out, since it is computed in any case."""
        ahead = Ahead(self._budget)
        prefixes = dict.fromkeys(Prefix(namespace, tuple(prompt[:-1])) for prompt in prompts)
        try:
            async with asyncio.timeout(_READ_SECONDS):
                for prefix in prefixes:
                    if self._store.may_have(prefix):
                        await self._bring_back(prefix, ahead)
        except TimeoutError:
            logger.warning("reading a prefix took longer than %g s; its prompt is computed", _READ_SECONDS)
        except EngineDeadError:  # the caller finds out when it submits the request
            pass
        except BaseException:
            ahead.release()
            raise
        return ahead

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

    async def save(self, seconds: float) -> None:
        """See PrefixReturn. What was used last is stored first."""
        with suppress(TimeoutError, EngineDeadError):
            async with asyncio.timeout(seconds):
                for seq_id in await self._between_steps(lambda core: core.prefixes.recycled()):
                    while not await self._between_steps(partial(_offer, seq_id)):
                        await asyncio.wrap_future(self._store.flushed())
                await asyncio.wrap_future(self._store.flushed())

    async def _between_steps(self, call: Callable[[EngineCore], T]) -> T:
        return await asyncio.wrap_future(self._loop.call(call))

    def end(self) -> None:
        """See PrefixReturn."""
        self._store.end()


def _bring_in(prefix: Prefix, pages: SequencePages, core: EngineCore) -> int:
    return core.prefixes.bring_in(prefix, pages)


def _offer(seq_id: int, core: EngineCore) -> bool:
    return core.prefixes.offer(seq_id)

"""The event loop's side of an engine's PrefixTransfer, whose operations run between steps on its thread."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TypeVar

from mlc_serve.engine.core import EngineCore
from mlc_serve.engine.loop import EngineLoop
from mlc_serve.engine.prefix_cache import ParkedPrefix
from mlc_serve.engine.prefix_store import Prefix
from mlc_serve.engine.prefix_transfer import PrefixTransfer, ReceivedPrefix
from mlc_serve.errors import EngineDeadError

T = TypeVar("T")


class EnginePrefixes:
    """For engines that can exchange prefixes. All methods raise what PrefixTransfer's do, and
    EngineDeadError, except that what ends something raises nothing.

    What a caller has asked for and then, because it was cancelled, does not wait for, is given back.
    """

    def __init__(self, loop: EngineLoop) -> None:
        self._loop = loop

    async def num_matched(self, prefix: Prefix) -> int:
        """See PrefixMoves.length."""
        return await asyncio.wrap_future(self._loop.call(lambda core: core.prefixes.length(prefix)))

    async def reserve(self, token_ids: Sequence[int], namespace: str, max_length: int) -> ReceivedPrefix:
        """See PrefixTransfer.reserve."""
        return await self._taken(
            lambda transfer: transfer.reserve(token_ids, namespace, max_length), self.let_go
        )

    async def append(self, prefix: ReceivedPrefix, data: memoryview) -> None:
        """See PrefixTransfer.append."""
        await self._taken(lambda transfer: transfer.append(prefix, data), lambda _: None)

    def redeem(self, prefix: ReceivedPrefix) -> None:
        """See PrefixTransfer.redeem."""
        self._tell(lambda transfer: transfer.redeem(prefix))

    def let_go(self, prefix: ReceivedPrefix) -> None:
        """See PrefixTransfer.let_go."""
        self._tell(lambda transfer: transfer.let_go(prefix))

    async def hold(self, token_ids: Sequence[int], namespace: str) -> ParkedPrefix | None:
        """See PrefixTransfer.hold."""
        return await self._taken(lambda transfer: transfer.hold(token_ids, namespace), self.release)

    async def export(self, parked: ParkedPrefix, start: int, stop: int) -> memoryview | bytes:
        """Return the bytes of PrefixTransfer.export."""
        pages = await self._taken(lambda transfer: transfer.export(parked, start, stop), lambda _: None)
        return pages.data

    def release(self, parked: ParkedPrefix | None) -> None:
        """See PrefixTransfer.release."""
        if parked is not None:
            self._tell(lambda transfer: transfer.release(parked))

    async def _taken(self, take: Callable[[PrefixTransfer], T], give_back: Callable[[T], None]) -> T:
        future = self._loop.call(lambda core: take(_transfer(core)))
        try:
            return await asyncio.shield(asyncio.wrap_future(future))
        except asyncio.CancelledError:
            if not future.cancel():
                future.add_done_callback(lambda done: _give_back(done, give_back))
            raise

    def _tell(self, change: Callable[[PrefixTransfer], None]) -> None:
        """Post a change. An engine that has ended needs it no more."""
        with contextlib.suppress(EngineDeadError):
            self._loop.call(lambda core: change(_transfer(core)))


def _transfer(core: EngineCore) -> PrefixTransfer:
    if core.prefix_transfer is None:
        raise RuntimeError("this engine can't exchange prefixes")
    return core.prefix_transfer


def _give_back(done: Future[T], give_back: Callable[[T], None]) -> None:
    if not done.cancelled() and done.exception() is None:
        give_back(done.result())

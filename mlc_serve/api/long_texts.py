"""Threads for work on long texts of requests, which must not hold up the streams of other requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TypeVar

from pydantic import BaseModel

from mlc_serve.host.worker_threads import WorkerThreads

T = TypeVar("T")

# Tokenizing this many characters takes about a millisecond; handing them to a thread takes a tenth of that.
LONG = 4096
# A list, an object or a message counts as this many characters, in addition to its contents.
_CONTAINER = 16
_NUM_THREADS = 2


def is_long(*values: object) -> bool:
    """Return whether the values contain more than LONG characters. Stops counting once they do."""
    num_left, waiting = LONG, list(values)
    while waiting and num_left >= 0:
        value = waiting.pop()
        parts = _parts(value)
        num_left -= len(value) if isinstance(value, str) else 1 if parts is None else _CONTAINER + len(parts)
        if parts and num_left >= 0:
            waiting += parts
    return num_left < 0


def _parts(value: object) -> list[object] | tuple[object, ...] | None:
    if isinstance(value, list | tuple):
        return value
    if isinstance(value, BaseModel):
        return list(vars(value).values())
    return [*value, *value.values()] if isinstance(value, Mapping) else None


class LongTexts:
    """Runs work on a few threads, which start when they are first needed. A process exits without waiting for
    them.
    """

    def __init__(self, num_threads: int = _NUM_THREADS) -> None:
        self._threads = WorkerThreads("long texts", num_threads)

    async def read(self, work: Callable[[], T], cancel: Callable[[], None] | None = None) -> T:
        """Run `work` on a thread, and return or raise what it returns or raises.

        If the caller is cancelled before `work` has started, it doesn't start. If it is already running,
        `cancel` is called, which should end it.
        """
        outcome = self._threads.submit(work)
        try:
            return await asyncio.wrap_future(outcome)
        except asyncio.CancelledError:
            if cancel is not None:
                cancel()
            raise

    def end(self) -> None:
        """Let the threads end once they have finished the work that is queued. Any thread may call this."""
        self._threads.end()

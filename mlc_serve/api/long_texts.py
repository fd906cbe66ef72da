"""Threads for work on long texts of requests, which must not hold up the streams of other requests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

from pydantic import BaseModel

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
        self._num_threads = num_threads
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    async def read(self, work: Callable[[], T], cancel: Callable[[], None] | None = None) -> T:
        """Run `work` on a thread, and return or raise what it returns or raises.

        If the caller is cancelled before `work` has started, it doesn't start. If it is already running,
        `cancel` is called, which should end it.
        """
        outcome: Future[T] = Future()
        self._start()
        self._jobs.put((outcome, work))
        try:
            return await asyncio.wrap_future(outcome)
        except asyncio.CancelledError:
            if cancel is not None:
                cancel()
            raise

    def end(self) -> None:
        """Let the threads end once they have finished the work that is queued. Any thread may call this."""
        for _ in self._threads:
            self._jobs.put(None)

    def _start(self) -> None:
        while len(self._threads) < self._num_threads:
            self._threads.append(threading.Thread(target=self._work, name="long texts", daemon=True))
            self._threads[-1].start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            outcome, work = job
            if outcome.set_running_or_notify_cancel():
                _do(outcome, work)
            del job, outcome, work  # so that they are not kept until the next job


def _do(outcome: Future[T], work: Callable[[], T]) -> None:
    try:
        outcome.set_result(work())
    except BaseException as error:  # noqa: BLE001 - raised to the caller by the future
        outcome.set_exception(error)

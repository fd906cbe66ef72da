"""Where the work on a request's text is done: what takes long must not hold up the streams of others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

from pydantic import BaseModel

T = TypeVar("T")

# Characters that take about a millisecond to tokenize; to go to a thread and back takes a tenth of one.
LONG = 4096
# What a list, an object or a message counts as, beside what is in it.
_CONTAINER = 16
_NUM_THREADS = 2


def is_long(*values: object) -> bool:
    """Whether there is more to read in the values than LONG characters. Looks no further than that."""
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
    """Two threads, which start when they are first needed. Nobody waits for them when the process ends."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    async def read(self, work: Callable[[], T], cancel: Callable[[], None] | None = None) -> T:
        """What `work` returns or raises.

        If the caller is cancelled, work that has not begun is not done, and `cancel` is called to end what
        has.
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
        """Let the threads end when they have done what they are asked for. From any thread."""
        for _ in self._threads:
            self._jobs.put(None)

    def _start(self) -> None:
        while len(self._threads) < _NUM_THREADS:
            self._threads.append(threading.Thread(target=self._work, name="long texts", daemon=True))
            self._threads[-1].start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            outcome, work = job
            if outcome.set_running_or_notify_cancel():
                _do(outcome, work)
            del job, outcome, work  # or they would stay until the next job comes


def _do(outcome: Future[T], work: Callable[[], T]) -> None:
    try:
        outcome.set_result(work())
    except BaseException as error:  # noqa: BLE001 - it is the caller's
        outcome.set_exception(error)

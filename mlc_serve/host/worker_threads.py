"""Threads that work off a queue, and for which nobody waits when the process ends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class WorkerThreads:
    """Some threads of one name, which start when they are first needed. One thread does its work in order."""

    def __init__(self, name: str, num_threads: int = 1) -> None:
        self._name = name
        self._num_threads = num_threads
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._starting = threading.Lock()

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Run `work` on a thread. The future returns or raises what it returns or raises; if it is cancelled
        before the work has started, that does not start. Any thread may call this.
        """
        outcome: Future[T] = Future()
        self._start()
        self._jobs.put((outcome, work))
        return outcome

    def end(self) -> None:
        """Let the threads end once they have finished the work that is queued. Any thread may call this."""
        for _ in self._threads:
            self._jobs.put(None)

    def _start(self) -> None:
        with self._starting:
            while len(self._threads) < self._num_threads:
                self._threads.append(threading.Thread(target=self._work, name=self._name, daemon=True))
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

"""Handles SIGINT and SIGTERM before there is a server that could drain: unfinished work is cleaned up.

Python turns SIGINT into a KeyboardInterrupt. It has no handler for SIGTERM, so that nothing would be cleaned
up. Process 1 of a container would not even end, because the system has no default action for it.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn, TypeVar

from mlc_serve.errors import EXIT_TERMINATED

T = TypeVar("T")


class Terminated(SystemExit):
    """SIGTERM has arrived. If nobody catches this, the process ends with EXIT_TERMINATED."""

    def __init__(self) -> None:
        super().__init__(EXIT_TERMINATED)


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Let the first SIGTERM raise Terminated in the block, and ignore further ones.

    If the interrupted code catches Terminated like one of its own errors, as a compiler's passes may, it is
    raised again at the end of the block. On threads other than the main one this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    has_arrived = False

    def terminate(_number: int, _frame: FrameType | None) -> NoReturn:
        nonlocal has_arrived
        has_arrived = True
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Terminated

    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
        if has_arrived:
            raise Terminated


def interruptible(work: Callable[[], T]) -> T:
    """Do `work` on another thread, and return or raise what it returns or raises.

    A signal interrupts the caller at once, even if the work waits for threads that wait for the network. The
    work itself then goes on until the process ends.
    """
    results: queue.SimpleQueue[Callable[[], T]] = queue.SimpleQueue()
    threading.Thread(target=lambda: results.put(_outcome(work)), daemon=True).start()
    return results.get()()


def _outcome(work: Callable[[], T]) -> Callable[[], T]:
    """What `work` returned or raised, as a function that does the same."""
    try:
        result = work()
    except BaseException as error:  # noqa: BLE001  raised again where it is waited for
        return _raising(error)
    return lambda: result


def _raising(error: BaseException) -> Callable[[], NoReturn]:
    def again() -> NoReturn:
        raise error

    return again


def end_within(seconds: float, code: int) -> None:
    """End the process with an exit code if it has not ended by itself after so many seconds."""
    limit = threading.Timer(seconds, os._exit, (code,))
    limit.daemon = True
    limit.start()

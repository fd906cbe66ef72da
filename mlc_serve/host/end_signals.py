"""The signals that ask a program to end."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_NAMES = frozenset({"SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"})


@contextmanager
def end_signals(handle: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Call `handle` for each of these signals that arrives in the block, on the main thread.

    These are plain handlers, not the event loop's, so that they work on Windows and while the loop is busy.
    """

    def handler(number: int, _frame: object) -> None:
        handle(signal.Signals(number))

    numbers = [number for number in signal.Signals if number.name in _NAMES]
    previous = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, former in previous.items():
            signal.signal(number, former)

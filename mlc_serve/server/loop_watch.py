"""Measures how long a single callback holds the event loop, while every other client waits.

A beat on the loop is due at equal intervals, and reads two clocks. If the time between two beats is longer
than the interval, the difference is a hold. The measured hold may be too short by up to one interval, but is
never too long. The clocks are:

    cpu    the time for which the loop's thread computed
    wall   the same plus the time for which it waited: for a lock, a file, the interpreter, or a free CPU

There are no beats while there is nothing to serve.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from typing import NamedTuple

from prometheus_client import Gauge, Histogram
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

logger = logging.getLogger(__name__)

# The number of beats per `warning_seconds`. Each beat wakes up a thread, which costs as much as a token.
BEATS_PER_WARNING = 20
# The beats stop after this many beats with nothing to serve.
QUIET_BEATS = 20
# Holds shorter than this many seconds are too frequent to be counted.
_SHORT = 0.01
_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


class Clocks(NamedTuple):
    """The clocks of a thread in seconds: the time, and the time for which the thread has computed."""

    wall: float
    cpu: float


class Hold(NamedTuple):
    """How long the loop was held, in seconds, measured by each clock."""

    wall: float
    cpu: float


def hold_between(before: Clocks, after: Clocks, interval: float) -> Hold:
    """Return the hold between two beats, which are due at this interval in seconds."""
    wall, cpu = after.wall - before.wall, after.cpu - before.cpu
    return Hold(max(0.0, wall - interval), max(0.0, cpu - interval))


class LoopHolds(Collector):
    """The longest hold so far, and a histogram of all holds that are not short, for /metrics."""

    def __init__(self) -> None:
        self._longest = Gauge(
            "mlc_serve_event_loop_longest_hold_seconds",
            "Longest time for which one callback held the event loop",
            ["clock"],
            registry=None,
        )
        self._holds = Histogram(
            "mlc_serve_event_loop_hold_seconds",
            "Times of 10 ms or more for which one callback held the event loop",
            ["clock"],
            registry=None,
            buckets=_BUCKETS,
        )
        self.longest = Hold(0.0, 0.0)
        for clock in Hold._fields:
            self._longest.labels(clock)
            self._holds.labels(clock)

    def collect(self) -> Iterable[Metric]:
        """Return the gauge and the histogram."""
        return [*self._longest.collect(), *self._holds.collect()]

    def saw(self, hold: Hold) -> None:
        """Count a hold, unless it is short."""
        if hold.wall < _SHORT and hold.cpu < _SHORT:
            return
        self.longest = Hold(max(hold.wall, self.longest.wall), max(hold.cpu, self.longest.cpu))
        for clock, seconds, longest in zip(Hold._fields, hold, self.longest, strict=True):
            self._longest.labels(clock).set(longest)
            if seconds >= _SHORT:
                self._holds.labels(clock).observe(seconds)


class LoopWatch:
    """Watches one event loop from `start` to `stop`. These and `touch` must be called on the loop.

    `is_busy` returns whether requests are being answered. A hold of more than `warning_seconds` is logged
    with the stack of the loop's thread. Beats are due 20 times in that time.
    """

    def __init__(self, holds: LoopHolds, warning_seconds: float, is_busy: Callable[[], bool]) -> None:
        self._holds = holds
        self._warning_seconds = warning_seconds
        self._interval = warning_seconds / BEATS_PER_WARNING
        self._is_busy = is_busy
        self._num_quiet = 0
        self._next_beat: asyncio.TimerHandle | None = None
        self._stopped = threading.Event()
        self._warner = threading.Thread(target=self._warn_of_holds, name="loop watch", daemon=True)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start to watch the loop, which runs on this thread."""
        self._loop = loop
        self._loop_thread = threading.get_ident()
        self._clocks = _read_clocks()
        self._warner.start()

    def stop(self) -> None:
        """Stop watching."""
        self._stopped.set()
        self._warner.join()
        if self._next_beat is not None:
            self._next_beat.cancel()

    def touch(self) -> None:
        """Note that bytes have arrived, so that there may be something to serve."""
        self._num_quiet = 0
        if self._next_beat is None:
            self._arm(_read_clocks())

    def _arm(self, clocks: Clocks) -> None:
        self._clocks = clocks
        self._next_beat = self._loop.call_later(self._interval, self._beat)

    def _beat(self) -> None:
        clocks = _read_clocks()
        self._holds.saw(hold_between(self._clocks, clocks, self._interval))
        self._num_quiet = 0 if self._is_busy() else self._num_quiet + 1
        if self._num_quiet < QUIET_BEATS:
            self._arm(clocks)
        else:
            self._next_beat = None

    def _warn_of_holds(self) -> None:
        """Log a warning once for each beat that is far too late. Runs on a thread of its own."""
        logged: Clocks | None = None
        while not self._stopped.wait(self._warning_seconds / 2):
            last = self._clocks
            overdue = self._next_beat is not None and time.monotonic() - last.wall > self._warning_seconds
            if overdue and last is not logged:
                logger.warning("the event loop has been held for too long by:\n%s", self._stack())
                logged = last

    def _stack(self) -> str:
        frame = sys._current_frames().get(self._loop_thread)
        return "".join(traceback.format_stack(frame)) if frame is not None else "a thread that has ended"


def _read_clocks() -> Clocks:
    """Read the clocks of the calling thread."""
    return Clocks(time.monotonic(), time.thread_time())

"""How long the event loop is held up by one callback."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from mlc_serve.server.loop_watch import (
    BEATS_PER_WARNING,
    QUIET_BEATS,
    Clocks,
    Hold,
    LoopHolds,
    LoopWatch,
    hold_between,
)

AT = Clocks(wall=100.0, cpu=10.0)
INTERVAL = 0.01


class FakeLoop:
    """An event loop whose timers go off when the test says so."""

    def __init__(self) -> None:
        self.timers: list[Callable[[], None]] = []

    def call_later(self, delay: float, callback: Callable[[], None]) -> FakeLoop:
        assert delay > 0
        self.timers.append(callback)
        return self

    def cancel(self) -> None:
        self.timers.clear()

    def ring(self) -> None:
        """Let the only timer go off."""
        (callback,) = self.timers
        self.timers.clear()
        callback()


@contextmanager
def watched(
    loop: FakeLoop, warning: float = INTERVAL * BEATS_PER_WARNING, is_busy: Callable[[], bool] = lambda: False
) -> Iterator[tuple[LoopWatch, LoopHolds]]:
    """A watch over a loop on this thread, which waits for its first beat."""
    holds = LoopHolds()
    watch = LoopWatch(holds, warning, is_busy)
    watch.start(cast(Any, loop))
    watch.touch()
    try:
        yield watch, holds
    finally:
        watch.stop()


def test_a_beat_that_is_on_time_is_no_hold() -> None:
    """Computing for any part of the interval between two beats is not a hold."""
    assert hold_between(AT, Clocks(100.0 + INTERVAL / 2, 10.0 + INTERVAL / 2), INTERVAL) == Hold(0, 0)


def test_a_hold_is_the_time_beyond_the_interval() -> None:
    """By either clock, a hold is the time between two beats, less the interval."""
    hold = hold_between(AT, Clocks(100.5, 10.3), INTERVAL)
    assert hold.wall == pytest.approx(0.5 - INTERVAL)
    assert hold.cpu == pytest.approx(0.3 - INTERVAL)


def test_computing_holds_the_loop() -> None:
    """Time spent computing before the next beat is reported as a hold, less one interval."""
    loop = FakeLoop()
    start = time.thread_time()
    with watched(loop) as (_, holds):
        while time.thread_time() < start + 0.2:
            pass
        loop.ring()
        assert 0.1 < holds.longest.cpu < time.thread_time() - start


def test_waiting_holds_the_loop_without_computing() -> None:
    """A callback that sleeps is a hold by the wall clock only, not by the CPU clock."""
    loop = FakeLoop()
    with watched(loop) as (_, holds):
        time.sleep(0.3)
        loop.ring()
        assert holds.longest.wall > 0.1
        assert holds.longest.cpu < 0.1


def test_beats_end_when_there_is_nothing_to_serve() -> None:
    """Some time after the last request the beats stop, until bytes come in again."""
    loop = FakeLoop()
    busy = iter([True] * 3)
    with watched(loop, is_busy=lambda: next(busy, False)) as (watch, _):
        for _ in range(3 + QUIET_BEATS):
            loop.ring()
        assert not loop.timers
        watch.touch()
        watch.touch()
        assert len(loop.timers) == 1


def test_a_long_hold_is_logged_with_its_stack(caplog: pytest.LogCaptureFixture) -> None:
    """The log names the function that holds the loop."""

    def hold_until_logged() -> None:
        deadline = time.monotonic() + 30
        while not caplog.records and time.monotonic() < deadline:
            time.sleep(0.01)

    caplog.set_level(logging.WARNING)
    with watched(FakeLoop(), warning=0.1):
        hold_until_logged()
    assert "hold_until_logged" in caplog.records[0].getMessage()


async def test_on_a_real_loop() -> None:
    """On a real loop the beats come without help."""
    came = asyncio.Event()
    holds = LoopHolds()

    def is_busy() -> bool:
        came.set()
        return False

    watch = LoopWatch(holds, INTERVAL * BEATS_PER_WARNING, is_busy)
    watch.start(asyncio.get_running_loop())
    watch.touch()
    await came.wait()
    watch.stop()


def test_metrics() -> None:
    """The metrics have the longest hold by either clock, and how many holds there were."""
    holds = LoopHolds()
    for hold in (Hold(0.3, 0.07), Hold(0.2, 0.0), Hold(0.001, 0.0)):
        holds.saw(hold)
    registry = CollectorRegistry()
    registry.register(holds)
    lines = generate_latest(registry).decode().splitlines()
    assert 'mlc_serve_event_loop_longest_hold_seconds{clock="wall"} 0.3' in lines
    assert 'mlc_serve_event_loop_longest_hold_seconds{clock="cpu"} 0.07' in lines
    assert 'mlc_serve_event_loop_hold_seconds_count{clock="wall"} 2.0' in lines
    assert 'mlc_serve_event_loop_hold_seconds_bucket{clock="cpu",le="0.05"} 0.0' in lines

"""The mailbox between the engine and a reader."""

from __future__ import annotations

import asyncio

import pytest

from mlc_serve.engine.request import RequestDelta
from mlc_serve.errors import EngineDeadError, ShuttingDownError
from mlc_serve.frontend.stream import Stream


async def test_slow_reader_takes_everything_at_once() -> None:
    """Deltas wait in their order."""
    stream = Stream(None, ["a"])
    deltas = [RequestDelta("a", (i,)) for i in range(3)]
    for delta in deltas:
        stream.put(delta)
    assert await stream.take() == deltas


async def test_reader_waits_for_what_is_not_there() -> None:
    """Nothing is returned before something has come."""
    stream = Stream(None, ["a"])
    reading = asyncio.ensure_future(stream.take())
    await asyncio.sleep(0)
    assert not reading.done()
    stream.put(RequestDelta("a"))
    assert len(await reading) == 1


async def test_failure_comes_after_what_was_there_and_stays() -> None:
    """The first error is the reason; what comes after it is not read."""
    stream = Stream(None, ["a"])
    stream.put(RequestDelta("a"))
    stream.fail(EngineDeadError("dead"))
    stream.fail(ShuttingDownError("later"))
    stream.put(RequestDelta("a"))
    assert len(await stream.take()) == 1
    for _ in range(2):
        with pytest.raises(EngineDeadError):
            await stream.take()

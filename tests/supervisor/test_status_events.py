"""How changes of status reach callbacks and iterators."""

from __future__ import annotations

import asyncio

import pytest

from mlc_serve.supervisor import MLCServerStatus
from mlc_serve.supervisor.status_events import StatusEvents


def status(pid: int) -> MLCServerStatus:
    """A status that is recognized by its pid."""
    return MLCServerStatus(pid=pid)


async def test_callbacks_are_called_until_they_are_removed() -> None:
    """A callback gets each new status in order until it is removed; removing it twice is harmless."""
    events, seen = StatusEvents(), list[int | None]()
    remove = events.add_callback(lambda status: seen.append(status.pid))
    events.emit(status(1))
    events.emit(status(2))
    remove()
    remove()
    events.emit(status(3))
    assert seen == [1, 2]


async def test_a_callback_that_fails_hurts_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """The error of a callback is logged, and the other callbacks are still called."""
    events, seen = StatusEvents(), list[int | None]()
    events.add_callback(lambda status: 1 // 0)
    events.add_callback(lambda status: seen.append(status.pid))
    events.emit(status(1))
    assert seen == [1]
    assert "a callback for mlc-status-changed failed" in caplog.text


async def test_an_iterator_waits_for_news() -> None:
    """An iterator gets the status that it waits for, and those that came meanwhile."""
    events = StatusEvents()
    stream = events.stream()
    waiting = asyncio.ensure_future(stream.__anext__())
    await asyncio.sleep(0)
    events.emit(status(1))
    events.emit(status(2))
    assert (await waiting).pid == 1
    assert (await stream.__anext__()).pid == 2


async def test_a_slow_iterator_loses_the_oldest() -> None:
    """An iterator that is not read keeps only its last statuses, and emitting never waits for it."""
    events = StatusEvents()
    stream = events.stream(buffered=2)
    for pid in range(5):
        events.emit(status(pid))
    events.close()
    assert [status.pid async for status in stream] == [3, 4]


async def test_after_the_end_there_is_nothing() -> None:
    """`close` ends an iterator that waits, and one that is made afterwards ends at once."""
    events = StatusEvents()
    waiting = asyncio.ensure_future(events.stream().__anext__())
    await asyncio.sleep(0)
    events.close()
    with pytest.raises(StopAsyncIteration):
        await waiting
    assert [status async for status in events.stream()] == []


async def test_a_closed_iterator_is_forgotten() -> None:
    """A closed iterator gets no more statuses; closing it twice is harmless."""
    events = StatusEvents()
    stream = events.stream()
    stream.close()
    stream.close()
    events.emit(status(1))
    assert [status async for status in stream] == []

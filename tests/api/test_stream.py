"""The mailbox between the engine and a reader."""

from __future__ import annotations

import asyncio

import pytest

from mlc_serve.api.stream import MAX_TAKEN, MAX_WAITING, Stream
from mlc_serve.engine.backend import TokenLogprobs
from mlc_serve.engine.request import RequestDelta
from mlc_serve.errors import EngineDeadError, ShuttingDownError


async def test_slow_reader_takes_everything_at_once() -> None:
    """Deltas are kept in order until the reader takes them."""
    stream = Stream(None, {"a": 1})
    deltas = [RequestDelta("a", (i,)) for i in range(3)]
    for delta in deltas:
        stream.put(delta)
    assert await stream.take() == deltas


async def test_reader_waits_for_what_is_not_there() -> None:
    """`take` returns only once there is a delta."""
    stream = Stream(None, {"a": 1})
    reading = asyncio.ensure_future(stream.take())
    await asyncio.sleep(0)
    assert not reading.done()
    stream.put(RequestDelta("a"))
    assert len(await reading) == 1


async def test_failure_comes_after_what_was_there_and_stays() -> None:
    """The reader gets the stored deltas, then the first error. Later deltas and errors are dropped."""
    stream = Stream(None, {"a": 1})
    stream.put(RequestDelta("a"))
    stream.fail(EngineDeadError("dead"))
    stream.fail(ShuttingDownError("later"))
    stream.put(RequestDelta("a"))
    assert len(await stream.take()) == 1
    for _ in range(2):
        with pytest.raises(EngineDeadError):
            await stream.take()


def with_logprobs(num_alternatives: int) -> RequestDelta:
    """Return a delta of one token with this many alternatives."""
    return RequestDelta("a", (1,), (TokenLogprobs(1, -1.0, ((1, -1.0),) * num_alternatives),))


@pytest.mark.parametrize("delta", [RequestDelta("a", (1,)), with_logprobs(20)], ids=["plain", "logprobs"])
async def test_a_backlog_is_taken_in_pieces(delta: RequestDelta) -> None:
    """A backlog is taken completely and in order, in small pieces between which other tasks run."""
    stream = Stream(None, {"a": 1})
    for _ in range(3 * MAX_TAKEN):
        stream.put(delta)
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count_turns())
    taken: list[list[RequestDelta]] = []
    while sum(map(len, taken)) < 3 * MAX_TAKEN:
        taken.append(await stream.take())
    counting.cancel()
    size = 1 + sum(1 + len(entry.top) for entry in delta.logprobs)
    assert all(len(deltas) * size < MAX_TAKEN + size for deltas in taken)
    assert turns >= len(taken) - 1


async def test_a_mailbox_is_full_at_some_time() -> None:
    """`put` says when the mailbox is full. After a failure it never is, since nothing is kept."""
    stream = Stream(None, {"a": 1})
    delta = with_logprobs(20)
    num_put = 1
    while stream.put(delta):
        num_put += 1
    assert num_put == MAX_WAITING // 22 + 1
    stream.fail(EngineDeadError("dead"))
    assert stream.put(delta)

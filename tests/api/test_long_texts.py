"""Which texts are long, and the threads that work on them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from mlc_serve.api.long_texts import LONG, LongTexts, is_long
from mlc_serve.protocol.openai import ChatCompletionRequest


@pytest.fixture
def texts() -> Iterator[LongTexts]:
    """Return threads that end with the test."""
    threads = LongTexts()
    yield threads
    threads.end()


@pytest.mark.parametrize(
    "value",
    [
        "x" * (LONG + 1),
        ["x" * 100] * 50,
        [1] * LONG,
        [[[] for _ in range(10)] for _ in range(50)],
        {"x" * LONG: 1},
        {"a": {"b": ["x" * LONG]}},
    ],
)
def test_much_is_long_wherever_it_stands(value: object) -> None:
    """Values are long if their contents are, in one text, in many small parts, or deeply nested."""
    assert is_long(value)
    assert is_long("short", [value])


@pytest.mark.parametrize("value", ["", "x" * LONG, None, 1, {}, [1] * 1000, {"a": ["b", "c"]}])
def test_little_is_short(value: object) -> None:
    """Short values are not worth a thread."""
    assert not is_long(value)


@pytest.mark.parametrize("where", ["content", "name", "arguments", "tool", "number"])
def test_every_part_of_a_request_counts(where: str) -> None:
    """All fields of a request count, not only the text of messages."""
    long = "x" * LONG
    message: dict[str, Any] = {"role": "assistant", "content": "a"}
    if where in ("content", "name"):
        message[where] = long
    if where == "arguments":
        function = {"name": "f", "arguments": f'{{"a": "{long}"}}'}
        message["tool_calls"] = [{"id": "1", "type": "function", "function": function}]
    tool = {"type": "function", "function": {"name": "f", "description": long}}
    fields: dict[str, Any] = {
        "messages": [message] * (500 if where == "number" else 1),
        "tools": [tool] if where == "tool" else [],
    }
    request = ChatCompletionRequest(**fields)
    assert is_long(request.messages, request.tools)


async def test_the_loop_is_left_free(texts: LongTexts) -> None:
    """Work runs on another thread, and its exceptions reach the caller."""

    def refuse() -> None:
        raise ValueError("refused")

    assert await texts.read(threading.current_thread) is not threading.current_thread()
    with pytest.raises(ValueError, match="refused"):
        await texts.read(refuse)


async def test_work_of_a_caller_that_left_is_cancelled(texts: LongTexts) -> None:
    """Running work has its cancel function called; queued work is never started."""
    told, begun, ended = threading.Event(), threading.Semaphore(0), threading.Semaphore(0)

    def work() -> None:
        begun.release()
        told.wait()
        ended.release()

    running = [asyncio.ensure_future(texts.read(work, told.set)) for _ in range(2)]
    for _ in running:
        await asyncio.to_thread(begun.acquire)
    waiting = [asyncio.ensure_future(texts.read(work)) for _ in range(3)]
    await asyncio.sleep(0)
    for caller in waiting:
        caller.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    running[0].cancel()
    await asyncio.gather(*running, return_exceptions=True)
    await texts.read(lambda: None)
    for _ in running:
        await asyncio.to_thread(ended.acquire)
    assert not begun.acquire(blocking=False)

"""Event streams."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mlc_serve.errors import EngineDeadError
from mlc_serve.server import sse


async def chunks(texts: list[str], error: Exception | None = None) -> AsyncIterator[str]:
    """JSON of chunks, then perhaps an exception."""
    for text in texts:
        yield json.dumps(text, ensure_ascii=False)
    if error is not None:
        raise error


async def events(first: str, rest: AsyncIterator[str]) -> list[Any]:
    """The data of all events, decoded."""
    body = b""
    async for part in sse.event_stream(json.dumps(first), rest).body_iterator:
        assert isinstance(part, bytes)
        body += part
    lines = body.decode().split("\n\n")
    assert lines.pop() == ""
    assert all(line.startswith("data: ") for line in lines)
    return [line[6:] if line == "data: [DONE]" else json.loads(line[6:]) for line in lines]


async def test_chunks_then_done() -> None:
    """Every chunk is one event, in order, and [DONE] is the last."""
    assert await events("a", chunks(["b\n\nc", "ü"])) == ["a", "b\n\nc", "ü", "[DONE]"]


async def test_refusal_in_mid_stream_is_an_event() -> None:
    """An error after the first byte arrives as an error object, then the stream ends as it always does."""
    _, error, done = await events("a", chunks([], EngineDeadError("The engine has died.")))
    assert error["error"]["message"] == "The engine has died."
    assert error["error"]["code"] == "engine_dead"
    assert done == "[DONE]"


async def test_unforeseen_error_is_an_event_without_details(caplog: pytest.LogCaptureFixture) -> None:
    """A bug in one stream is told to its client and logged with its traceback."""
    _, error, _ = await events("a", chunks([], ZeroDivisionError("secret")))
    assert error["error"]["type"] == "server_error"
    assert "secret" not in json.dumps(error)
    assert "ZeroDivisionError" in caplog.text


def test_pings_are_comments() -> None:
    """Silence is filled with lines that clients skip."""
    response = sse.event_stream('"a"', chunks([]))
    assert response.ping_interval == 15
    assert response.ping_message_factory is not None
    assert response.ping_message_factory().encode() == b": ping\n\n"

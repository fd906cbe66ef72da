"""Event streams."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sse_starlette import ServerSentEvent
from starlette.types import Message

from mlc_serve.errors import EngineDeadError
from mlc_serve.server import sse
from mlc_serve.server.sse import EventForm, EventStream


class Connection:
    """Both ends of ASGI: what was sent, and a client that stays until `leave` is set."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.leave = asyncio.Event()
        self.arrived = asyncio.Event()

    async def receive(self) -> Message:
        await self.leave.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        if message.get("body"):
            self.arrived.set()

    async def take(self, response: EventStream) -> None:
        """Let a response send everything it has."""
        await response({"type": "http", "method": "POST"}, self.receive, self.send)

    @property
    def body(self) -> bytes:
        """All bytes of the body."""
        return b"".join(message.get("body", b"") for message in self.sent)


async def chunks(texts: list[str], error: Exception | None = None) -> AsyncIterator[bytes]:
    """An event for each text, as JSON, then perhaps an exception."""
    for text in texts:
        yield event(text)
    if error is not None:
        raise error


def event(value: str) -> bytes:
    """An event whose data is a JSON string."""
    return sse.event(json.dumps(value, ensure_ascii=False)).encode()


async def events(first: str, rest: AsyncIterator[bytes]) -> list[Any]:
    """The data of all events, decoded."""
    connection = Connection()
    await connection.take(EventStream(event(first), rest, send_timeout=60))
    lines = connection.body.decode().split("\n\n")
    assert lines.pop() == ""
    assert all(line.startswith("data: ") for line in lines)
    return [line[6:] if line == "data: [DONE]" else json.loads(line[6:]) for line in lines]


async def test_chunks_then_done() -> None:
    """Every chunk is one event, in order, and [DONE] is the last."""
    assert await events("a", chunks(["b\n\nc", "ü"])) == ["a", "b\n\nc", "ü", "[DONE]"]


async def test_a_reply_is_marked_as_a_stream() -> None:
    """The reply has the type of event streams, no cache or proxy may hold it back, and its end is marked."""
    connection = Connection()
    await connection.take(EventStream(event("a"), chunks([]), send_timeout=60))
    start, *_, last = connection.sent
    headers = dict(start["headers"])
    assert start["status"] == 200
    assert headers[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert headers[b"cache-control"] == b"no-store"
    assert headers[b"x-accel-buffering"] == b"no"
    assert not last.get("more_body", False)


async def test_refusal_in_mid_stream_is_an_event() -> None:
    """An error after the first byte arrives as an error object, and the stream still ends with [DONE]."""
    _, error, done = await events("a", chunks([], EngineDeadError("The engine has died.")))
    assert error["error"]["message"] == "The engine has died."
    assert error["error"]["code"] == "engine_dead"
    assert done == "[DONE]"


async def test_unforeseen_error_is_an_event_without_details(caplog: pytest.LogCaptureFixture) -> None:
    """A bug in one stream reaches its client as an error without details, and the log with its traceback."""
    _, error, _ = await events("a", chunks([], ZeroDivisionError("secret")))
    assert error["error"]["type"] == "server_error"
    assert "secret" not in json.dumps(error)
    assert "ZeroDivisionError" in caplog.text


async def test_silence_is_filled_with_comments() -> None:
    """While no event comes, comments are sent, which clients skip; none follows the end."""
    connection = Connection()

    async def silent_until_pinged() -> AsyncIterator[bytes]:
        connection.arrived.clear()
        await connection.arrived.wait()
        yield event("b")

    stream = EventStream(event("a"), silent_until_pinged(), send_timeout=60, ping_seconds=0.001)
    await connection.take(stream)
    assert connection.body.startswith(b'data: "a"\n\n: ping\n\n')
    assert connection.body.endswith(b'data: "b"\n\ndata: [DONE]\n\n')


async def test_another_api_may_have_other_pings_and_errors_and_no_end() -> None:
    """A stream has the pings and errors of its form, and ends after the last event if the form has no end."""
    connection = Connection()
    form = EventForm(
        ping=ServerSentEvent("{}", event="ping", sep="\n"),
        error=lambda error: sse.event(error.message, "error"),
    )

    async def silent_then_failing() -> AsyncIterator[bytes]:
        connection.arrived.clear()
        await connection.arrived.wait()
        yield event("b")
        raise EngineDeadError("dead")

    stream = EventStream(event("a"), silent_then_failing(), send_timeout=60, ping_seconds=0.001, form=form)
    await connection.take(stream)
    assert b"\n\nevent: ping\ndata: {}\n\n" in connection.body
    assert connection.body.endswith(b'data: "b"\n\nevent: error\ndata: dead\n\n')


async def test_a_client_that_leaves_ends_its_stream() -> None:
    """When the client leaves, the generator of its events is cancelled, and nothing more is sent."""
    connection = Connection()
    cancelled = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            await asyncio.Event().wait()
            yield event("b")
        finally:
            cancelled.set()

    stream = EventStream(event("a"), endless(), send_timeout=60)
    taking = asyncio.ensure_future(connection.take(stream))
    await connection.arrived.wait()
    connection.leave.set()
    await taking
    assert cancelled.is_set()
    assert connection.body == b'data: "a"\n\n'


async def test_a_client_that_reads_nothing_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    """When sending takes longer than the time-out, the stream ends, and no further event is computed."""
    caplog.set_level("INFO")
    connection = Connection()
    asked_for_more = False

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    async def rest() -> AsyncIterator[bytes]:
        nonlocal asked_for_more
        asked_for_more = True
        yield event("b")

    stream = EventStream(event("a"), rest(), send_timeout=0.01)
    await stream({"type": "http", "method": "POST"}, connection.receive, send)
    assert not asked_for_more
    assert "was not read" in caplog.text


async def test_a_stream_that_has_nothing_to_say_is_not_given_up() -> None:
    """The time-out applies to sending only, not to the wait for the next event."""
    connection = Connection()

    async def silent_for_three_pings() -> AsyncIterator[bytes]:
        for _ in range(3):
            connection.arrived.clear()
            await connection.arrived.wait()
        yield event("b")

    stream = EventStream(event("a"), silent_for_three_pings(), send_timeout=0.001, ping_seconds=0.002)
    await connection.take(stream)
    assert connection.body.endswith(event("b") + b"data: [DONE]\n\n")

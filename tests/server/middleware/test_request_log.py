"""The log has one line for each request."""

from __future__ import annotations

import asyncio
import json
import logging

import httpx
import pytest
from starlette.types import Message

from mlc_serve.config import ServerConfig
from mlc_serve.server.app import create_app
from mlc_serve.server.context import ServerContext
from mlc_serve.testing import FakeBackend

COMPLETION = {"prompt": "Hello", "max_tokens": 5, "ignore_eos": True}


def lines_of(caplog: pytest.LogCaptureFixture, level: int = logging.INFO) -> list[str]:
    """The lines of the request log at one level."""
    name = "mlc_serve.server.middleware.request_log"
    records = [record for record in caplog.records if record.name == name]
    return [record.getMessage() for record in records if record.levelno == level]


@pytest.mark.parametrize("stream", [True, False])
async def test_generation(client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture, stream: bool) -> None:
    """The line has id, model, tokens, duration and finish reason; that of a stream also has its TTFT."""
    caplog.set_level(logging.INFO)
    await client.post(
        "/v1/completions", json={**COMPLETION, "stream": stream}, headers={"X-Request-Id": "me"}
    )
    (line,) = lines_of(caplog)
    assert line.startswith("POST '/v1/completions' 200 id=me duration=")
    for fact in ("model=fake", "prompt_tokens=6", "completion_tokens=5", "finish=length"):
        assert f" {fact}" in line
    assert (" ttft=" in line) == stream


async def test_refusals(client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    """A refused request is logged too."""
    caplog.set_level(logging.INFO)
    await client.post("/v1/completions", json={})
    (line,) = lines_of(caplog)
    assert line.startswith("POST '/v1/completions' 400 id=")


async def test_probes_are_quiet(client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    """Probes, which come every few seconds, are logged at the debug level only."""
    caplog.set_level(logging.DEBUG)
    await client.get("/health")
    assert lines_of(caplog) == []
    assert len(lines_of(caplog, logging.DEBUG)) == 1


async def test_a_client_that_left(
    context: ServerContext, backend: FakeBackend, caplog: pytest.LogCaptureFixture
) -> None:
    """A stream whose client left is logged as disconnected."""
    caplog.set_level(logging.INFO)
    backend.hold_after(1)
    streaming = asyncio.Event()
    body = json.dumps({**COMPLETION, "max_tokens": 500, "stream": True}).encode()
    incoming = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if not incoming:
            await streaming.wait()
        return incoming.pop() if incoming else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message.get("body"):
            streaming.set()

    headers = [(b"content-type", b"application/json")]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/completions",
        "headers": headers,
        "query_string": b"",
    }
    await create_app(context, ServerConfig())(scope, receive, send)
    (line,) = lines_of(caplog)
    assert " finish=disconnected" in line

"""The X-Request-Id header."""

from __future__ import annotations

import logging

import httpx
import pytest

from mlc_serve.api.async_engine import AsyncMLCEngine
from mlc_serve.config import ServerConfig
from mlc_serve.server.app import create_app
from mlc_serve.server.context import ServerContext
from mlc_serve.server.middleware.request_id import accepted_id
from mlc_serve.testing import fake_model


async def test_a_plain_id_comes_back(client: httpx.AsyncClient) -> None:
    """A client can find its own id in the reply."""
    reply = await client.get("/v1/models", headers={"X-Request-Id": "trace-1/a:b.c"})
    assert reply.headers["x-request-id"] == "trace-1/a:b.c"


async def test_ids_are_made_up(client: httpx.AsyncClient) -> None:
    """Two requests without an id get different ones, even if one is refused."""
    replies = [await client.get("/v1/models"), await client.get("/nowhere")]
    ids = {reply.headers["x-request-id"] for reply in replies}
    assert len(ids) == 2
    assert all(ids)


@pytest.mark.parametrize("hostile", ["", "a b", "x" * 129, "a\nINFO forged", "ümlaut", '"quoted"'])
def test_hostile_ids_are_replaced(hostile: str) -> None:
    """An id that could forge a log line or bloat it is replaced."""
    assert accepted_id(hostile) != hostile


async def test_request_reply_log_and_trace_can_be_joined(caplog: pytest.LogCaptureFixture) -> None:
    """The reply's id contains the request's, the log line has both, and the trace's ids begin with it.

    Two requests with the same X-Request-Id still get different reply ids.
    """
    caplog.set_level(logging.INFO)
    context = ServerContext()
    context.add(AsyncMLCEngine.from_loaded(fake_model(), enable_tracing=True))
    transport = httpx.ASGITransport(create_app(context, ServerConfig()))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        body = {"prompt": "x", "max_tokens": 1, "n": 2}
        headers = {"X-Request-Id": "mine"}
        replies = [await client.post("/v1/completions", json=body, headers=headers) for _ in range(2)]
    ids = [reply.json()["id"] for reply in replies]
    traced = {event["tid"] for event in context.all_served[0].event_trace() or []}
    context.close()
    lines = [record.getMessage() for record in caplog.records if " id=mine " in record.getMessage()]
    assert len(set(ids)) == 2
    for reply_id, line in zip(ids, lines, strict=True):
        assert reply_id.startswith("cmpl-mine-")
        assert f" reply={reply_id} " in line
        assert len([name for name in traced if name.startswith(f"{reply_id}-")]) == 2

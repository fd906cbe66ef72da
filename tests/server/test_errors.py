"""Failures on the wire."""

from __future__ import annotations

import logging

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from mlc_serve.errors import QueueFullError, ShuttingDownError
from mlc_serve.server.errors import UnexpectedErrors, error_response


async def test_unknown_path(client: httpx.AsyncClient) -> None:
    """A path that is not there is named."""
    reply = await client.get("/v2/models")
    assert reply.status_code == 404
    assert "/v2/models" in reply.json()["error"]["message"]


async def test_wrong_method(client: httpx.AsyncClient) -> None:
    """A known path with the wrong method says which methods it takes."""
    reply = await client.get("/v1/chat/completions")
    assert reply.status_code == 405
    assert reply.headers["allow"] == "POST"
    assert reply.json()["error"]["code"] == "method_not_allowed"


def test_retry_after() -> None:
    """Clients are told when to try again where that makes sense."""
    assert int(error_response(QueueFullError("full")).headers["retry-after"]) > 0
    assert int(error_response(ShuttingDownError("bye")).headers["retry-after"]) > 0


async def test_unexpected_exceptions_are_told_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """The client gets the error object without details; the log has the traceback."""

    async def broken(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise ZeroDivisionError("secret")

    transport = httpx.ASGITransport(UnexpectedErrors(broken))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        reply = await client.get("/x")
    assert reply.status_code == 500
    assert reply.json()["error"]["type"] == "server_error"
    assert "secret" not in reply.text
    assert [record.levelno for record in caplog.records if record.exc_info] == [logging.ERROR]

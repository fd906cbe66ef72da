"""Failures as the client receives them."""

from __future__ import annotations

import logging
from dataclasses import replace

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from mlc_serve.api.async_engine import AsyncMLCEngine
from mlc_serve.errors import QueueFullError, ShuttingDownError
from mlc_serve.server.context import ServerContext
from mlc_serve.server.middleware.errors import UnexpectedErrors, error_response
from mlc_serve.server.middleware.reply_heads import ReplyHeads
from mlc_serve.testing import fake_model
from mlc_serve.text.tokenization.tokenizer import Tokenizer
from tests.small_tokenizers import panicking


async def test_unknown_path(client: httpx.AsyncClient) -> None:
    """The error message names the path that does not exist."""
    reply = await client.get("/v2/models")
    assert reply.status_code == 404
    assert "/v2/models" in reply.json()["error"]["message"]


async def test_wrong_method(client: httpx.AsyncClient) -> None:
    """The refusal of a wrong method says which methods the path takes."""
    reply = await client.get("/v1/chat/completions")
    assert reply.status_code == 405
    assert reply.headers["allow"] == "POST"
    assert reply.json()["error"]["code"] == "method_not_allowed"


@pytest.mark.parametrize("prompt", ["a", "a" * 9000], ids=["short", "long"])
async def test_a_panic_of_the_tokenizer(
    context: ServerContext, client: httpx.AsyncClient, prompt: str
) -> None:
    """The client gets it as an error object, on the event loop or off it, and other requests go on."""
    model = replace(fake_model("odd", max_total_sequence_length=20_000), tokenizer=Tokenizer(panicking()))
    context.add(AsyncMLCEngine.from_loaded(model))
    reply = await client.post("/v1/completions", json={"model": "odd", "prompt": prompt})
    assert (reply.status_code, reply.json()["error"]["code"]) == (500, "request_failed")
    reply = await client.post("/v1/completions", json={"model": "fake", "prompt": "a", "max_tokens": 1})
    assert reply.status_code == 200


def test_retry_after() -> None:
    """A full queue and a shutdown tell the client when to try again."""
    assert int(error_response(QueueFullError("full")).headers["retry-after"]) > 0
    assert int(error_response(ShuttingDownError("bye")).headers["retry-after"]) > 0


async def test_unexpected_exceptions_are_told_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """The client gets the error object without details; the log has the traceback."""

    async def broken(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise ZeroDivisionError("secret")

    transport = httpx.ASGITransport(ReplyHeads(UnexpectedErrors(broken)))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        reply = await client.get("/x")
    assert reply.status_code == 500
    assert reply.json()["error"]["type"] == "server_error"
    assert "secret" not in reply.text
    assert [record.levelno for record in caplog.records if record.exc_info] == [logging.ERROR]

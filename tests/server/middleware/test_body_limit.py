"""The limit on request bodies."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx

from mlc_serve.config import ServerConfig
from mlc_serve.server.app import create_app
from mlc_serve.server.context import ServerContext
from tests.server.conftest import MakeClient

HUNDRED_MEGABYTES = 100 * 1024 * 1024


async def test_an_announced_body_is_refused_unread(context: ServerContext) -> None:
    """A Content-Length beyond the limit gets a 413 before any of the body is read."""
    sent = []

    async def receive() -> dict[str, object]:
        raise AssertionError("the body was read")

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    headers = [(b"content-length", str(HUNDRED_MEGABYTES).encode()), (b"content-type", b"application/json")]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/completions",
        "headers": headers,
        "query_string": b"",
    }
    await create_app(context, ServerConfig())(scope, receive, send)  # type: ignore[arg-type]
    assert sent[0]["status"] == 413


async def test_a_chunked_body_is_counted(make_client: MakeClient) -> None:
    """Without a Content-Length, reading stops at the limit, not at the end of the body."""
    num_sent = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal num_sent
        for _ in range(1000):
            num_sent += 1
            yield b" " * 100

    async with make_client(max_body_bytes=1000) as client:
        reply = await client.post(
            "/v1/completions", content=chunks(), headers={"Content-Type": "application/json"}
        )
    assert reply.status_code == 413
    assert reply.json()["error"]["code"] == "body_too_large"
    assert num_sent < 20


async def test_a_body_at_the_limit_is_read(make_client: MakeClient) -> None:
    """A body of exactly the limit is read: it is refused only for what it contains."""
    async with make_client(max_body_bytes=1000) as client:
        reply = await _post(client, b" " * 998 + b"{}")
    assert reply.status_code == 400


async def _post(client: httpx.AsyncClient, content: bytes) -> httpx.Response:
    return await client.post("/v1/completions", content=content, headers={"Content-Type": "application/json"})

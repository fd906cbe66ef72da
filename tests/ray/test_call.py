"""A call reaches an application as the request that it was, and the reply comes back part by part."""

from __future__ import annotations

import asyncio
import pickle
from contextlib import aclosing

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from mlc_serve.ray.call import Call, answers
from mlc_serve.router.message import ReplyHead
from tests.ray.calls import call_of

SCOPE: Scope = {
    "type": "http",
    "method": "POST",
    "root_path": "/llm",
    "path": "/llm/v1/echo",
    "query_string": b"a=1",
    "headers": [(b"X-One", b"1")],
    "client": ("10.0.0.1", 1234),
}


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with what arrived."""
    request = Request(scope, receive)
    told = [request.method, request.url.path, request.url.query, request.headers["x-one"], request.client]
    await PlainTextResponse(f"{told} {(await request.body()).decode()}")(scope, receive, send)


async def test_a_request_arrives_as_it_was() -> None:
    """Method, path, query, headers, client and body survive the way to another process."""
    call: Call = pickle.loads(pickle.dumps(Call.of(SCOPE, b"body")))
    assert (call.request.path, call.prefix) == ("/v1/echo", "/llm")
    ((head, body),) = [parts async for parts in answers(echo, call)]
    assert isinstance(head, ReplyHead)
    assert head.status == 200
    assert isinstance(body, bytes)
    assert body.decode().endswith("'a=1', '1', Address(host='10.0.0.1', port=1234)] body")


async def test_parts_come_as_they_are_sent() -> None:
    """A stream is not held back until it is complete."""
    gate = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        await gate.wait()
        await send({"type": "http.response.body", "body": b"last"})

    async with aclosing(answers(app, call_of())) as batches:
        assert await anext(batches) == [ReplyHead(200, ()), b"first"]
        gate.set()
        assert [parts async for parts in batches] == [[b"last"]]


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_a_reader_that_leaves_cancels_the_application(is_cancelled: bool) -> None:
    """Whether the generator is closed or its task cancelled, the application ends before that returns."""
    ended = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            await receive()
            await receive()
        finally:
            ended.set()

    batches = answers(app, call_of())
    await anext(batches)
    if is_cancelled:
        waiting = asyncio.ensure_future(anext(batches))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    else:
        await batches.aclose()
    assert ended.is_set()


async def test_a_failure_of_the_application_is_raised() -> None:
    """What the application raises reaches whoever reads the reply."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await anext(answers(app, call_of()))

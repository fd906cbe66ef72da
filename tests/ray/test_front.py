"""The front passes requests on, and no request is lost in silence when a replica is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from mlc_serve.errors import QueueFullError, ServerLostError
from mlc_serve.protocol.json_text import JsonLimits
from mlc_serve.ray.call import Call, Parts
from mlc_serve.ray.front import Front
from mlc_serve.router.message import ReplyHead
from mlc_serve.server.middleware.errors import EXCEPTION_HANDLERS
from tests.ray.calls import CHAT, chat_body

JSON = ReplyHead(200, ((b"content-type", b"application/json"), (b"x-routed-to", b"r2")))
EVENTS = ReplyHead(200, ((b"content-type", b"text/event-stream; charset=utf-8"),))
LOST = ServerLostError("The replica is gone.")

Step = Parts | Exception
WHOLE: list[Step] = [[JSON, b"{}"]]


class ScriptedReplicas:
    """Answers the nth call with the nth script, whose exceptions are raised. Implements front.Replicas."""

    def __init__(self, *scripts: Sequence[Step]) -> None:
        self._scripts = list(scripts)
        self.calls: list[Call] = []
        self.num_closed = 0

    async def answer(self, call: Call) -> AsyncGenerator[Parts, None]:
        """See Replicas.answer."""
        self.calls.append(call)
        try:
            for step in self._scripts.pop(0):
                if isinstance(step, Exception):
                    raise step
                yield step
        finally:
            self.num_closed += 1


def client_of(replicas: ScriptedReplicas) -> httpx.AsyncClient:
    """A client of a front, as Serve mounts it."""
    app = Starlette(
        routes=[Route("/{path:path}", Front(replicas, JsonLimits()))],
        exception_handlers=EXCEPTION_HANDLERS,
    )
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


async def test_a_reply_comes_back_as_it_was() -> None:
    """Status, headers and body are those of the replica, and the replica gets the whole request. The id of
    the request is left to Serve, which sends it in any case.
    """
    head = ReplyHead(404, ((b"x-one", b"1"), (b"x-request-id", b"2")))
    replicas = ScriptedReplicas([[head, b"no", b"thing"]])
    async with client_of(replicas) as client:
        reply = await client.post("/v1/completions?a=1", json=chat_body(), headers={"X-Two": "2"})
    assert (reply.status_code, reply.headers["x-one"], reply.text) == (404, "1", "nothing")
    assert "x-request-id" not in reply.headers
    (call,) = replicas.calls
    assert call.request.target == b"/v1/completions?a=1"
    assert (b"x-two", b"2") in call.request.headers


async def test_conversations_that_begin_alike_share_pages() -> None:
    """The next turn of a conversation has all pages that the last one had, also if it is long."""
    replicas = ScriptedReplicas(WHOLE, WHOLE, WHOLE)
    first = {"role": "user", "content": "a" * 500}
    turns = [[first], [first, {"role": "assistant", "content": "b" * 500}], [first] * 100]
    async with client_of(replicas) as client:
        for turn in turns:
            await client.post(CHAT, json=chat_body(messages=turn))
    short, longer, longest = (call.prompt.pages for call in replicas.calls)
    assert len(short) < len(longer) < len(longest)
    assert longer[: len(short)] == short == longest[: len(short)]


async def test_a_lost_replica_is_replaced_before_its_reply() -> None:
    """If a replica is lost before its reply has begun, another one answers, unnoticed by the client."""
    replicas = ScriptedReplicas([LOST], [LOST], [[JSON, b'{"whole":1}']])
    async with client_of(replicas) as client:
        reply = await client.post(CHAT, json=chat_body())
    assert reply.json() == {"whole": 1}
    assert replicas.num_closed == 3


async def test_a_request_is_not_repeated_without_end() -> None:
    """If every replica is lost, the client gets an error that says so."""
    replicas = ScriptedReplicas([LOST], [LOST], [LOST])
    async with client_of(replicas) as client:
        reply = await client.post(CHAT, json=chat_body())
    assert (reply.status_code, reply.json()["error"]["code"]) == (502, "server_lost")


async def test_what_may_change_something_is_not_repeated() -> None:
    """A stored response is not deleted twice."""
    replicas = ScriptedReplicas([LOST])
    async with client_of(replicas) as client:
        reply = await client.delete("/v1/responses/resp_1")
    assert reply.status_code == 502


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (CHAT, '"code": "server_lost"'),
        ("/v1/responses", "event: error\n"),
        ("/v1/messages", '"type":"api_error"'),
    ],
)
async def test_a_stream_that_is_cut_off_says_so(path: str, expected: str) -> None:
    """A stream whose replica is lost ends with an error event in the form of its API."""
    replicas = ScriptedReplicas([[EVENTS, b"data: 1\n\n"], LOST])
    async with client_of(replicas) as client:
        reply = await client.post(path, json=chat_body(stream=True))
    assert reply.text.startswith("data: 1\n\n")
    assert expected in reply.text


async def test_a_whole_reply_that_is_cut_off_is_not_taken_for_complete() -> None:
    """A JSON reply that ends early breaks the connection, since nothing else could tell."""
    replicas = ScriptedReplicas([[JSON, b'{"half":'], LOST])
    async with client_of(replicas) as client:
        with pytest.raises(RuntimeError):
            await client.post(CHAT, json=chat_body())


async def test_full_replicas_refuse() -> None:
    """When no replica has room, the client gets 429, and is told to come again."""
    async with client_of(ScriptedReplicas([QueueFullError("full")])) as client:
        reply = await client.post(CHAT, json=chat_body())
    assert (reply.status_code, reply.headers["retry-after"]) == (429, "1")


async def test_a_client_that_leaves_ends_its_call() -> None:
    """When the client disconnects, the call to the replica is closed."""
    begun, gone = asyncio.Event(), asyncio.Event()

    class Silent(ScriptedReplicas):
        async def answer(self, call: Call) -> AsyncGenerator[Parts, None]:
            begun.set()
            try:
                await asyncio.get_running_loop().create_future()
                yield []
            finally:
                self.num_closed += 1

    replicas = Silent()
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": b"{}"}]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: object) -> None:
        raise AssertionError("nothing is to be sent")

    scope = {"type": "http", "method": "POST", "path": CHAT, "query_string": b"", "headers": []}
    answering = asyncio.ensure_future(Front(replicas, JsonLimits())(scope, receive, send))
    await begun.wait()
    gone.set()
    await answering
    assert replicas.num_closed == 1


async def test_a_stored_response_is_asked_of_the_replica_that_has_it() -> None:
    """A request about a response, or one that continues it, names the replica that has made it."""
    made: Parts = [JSON, b'{"id":"resp_1",', b'"object":"response"}']
    replicas = ScriptedReplicas([made], WHOLE, WHOLE, WHOLE)
    body = {"model": "fake", "input": "Hello"}
    async with client_of(replicas) as client:
        await client.post("/v1/responses", json=body)
        await client.get("/v1/responses/resp_1/input_items")
        await client.post("/v1/responses", json={**body, "previous_response_id": "resp_1"})
        await client.get("/v1/responses/resp_2")
    assert [call.holder for call in replicas.calls] == [None, "r2", "r2", None]

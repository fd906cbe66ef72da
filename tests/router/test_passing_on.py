"""What a router passes on: requests and replies as they are, except for what concerns one connection only."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from mlc_serve.config import ServerConfig
from tests.router.running_router import running_router
from tests.router.scripted_server import (
    END,
    STREAM,
    Asked,
    answering,
    chunk,
    json_reply,
    metrics_reply,
    scripted,
)

OK = json_reply(b'{"a": 1}')


async def test_a_request_arrives_as_it_was_sent() -> None:
    """Method, path, query, body and the client's headers are the same; those of the connection are new."""
    async with scripted(answering(OK)) as server, running_router(server.url) as router:
        await router.client.put(
            "/v1/files/a%2Fb?x=%20&y",
            content=b'{ "odd" :1}',
            headers={
                "X-Own": "1",
                "Connection": "keep-alive, x-hop",
                "X-Hop": "2",
                "TE": "trailers",
                "Authorization": "Bearer k",
                "X-Request-Id": "my-id",
                "Origin": "http://a",
            },
        )
    (request,) = server.received
    assert request.line == b"PUT /v1/files/a%2Fb?x=%20&y HTTP/1.1"
    assert request.body == b'{ "odd" :1}'
    sent = {
        name: request.headers.get(name) for name in (b"x-own", b"authorization", b"x-request-id", b"host")
    }
    assert sent == {
        b"x-own": b"1",
        b"authorization": b"Bearer k",
        b"x-request-id": b"my-id",
        b"host": server.name.encode(),
    }
    assert not {b"connection", b"x-hop", b"te", b"origin"} & request.headers.keys()


async def test_a_reply_arrives_as_it_was_sent() -> None:
    """Status, headers and body are the same, and one header names the server."""
    headers = b"X-Own: 1\r\nKeep-Alive: timeout=5\r\nServer: other\r\nVary: Origin\r\n"
    headers += b"Access-Control-Allow-Origin: b\r\n"
    reply = json_reply(b'{ "odd" :1}', b"418 Teapot", headers)
    async with scripted(answering(reply)) as server, running_router(server.url) as router:
        got = await router.client.get("/v1/x", headers={"Origin": "http://a"})
    assert (got.status_code, got.content) == (418, b'{ "odd" :1}')
    assert (got.headers["x-own"], got.headers["x-routed-to"]) == ("1", server.name)
    assert "keep-alive" not in got.headers
    for name, value in (("server", "uvicorn"), ("access-control-allow-origin", "*"), ("vary", "Origin")):
        assert got.headers.get_list(name) == [value]
    assert len(got.headers.get_list("x-request-id")) == 1


async def test_a_stream_arrives_byte_for_byte_as_it_comes() -> None:
    """Events are passed on before the next ones exist, whatever the portions in which they come."""
    asks = asyncio.Event()

    async def answer(asked: Asked) -> None:
        await asked.send(STREAM, chunk(b"data: 1\n"), chunk(b"\n"))
        await asks.wait()
        await asked.send(chunk(b": ping\r\n\r\ndata: 2\n\nda"), chunk(b"ta: [DONE]\n\n"), END)

    async with scripted(answer) as server, running_router(server.url) as router:
        async with router.client.stream("POST", "/v1/completions", json={"prompt": "x"}) as reply:
            parts = reply.aiter_raw()
            assert await anext(parts) == b"data: 1\n\n"
            asks.set()
            rest = b"".join([part async for part in parts])
        assert rest == b": ping\r\n\r\ndata: 2\n\ndata: [DONE]\n\n"
        assert reply.headers["content-type"] == "text/event-stream"


async def test_a_server_may_have_a_prefix_and_a_key_of_its_own() -> None:
    """With a key for the servers, the client's keys stay with the router."""
    async with (
        scripted(answering(OK)) as server,
        running_router(f"{server.url}/llm/", backend_api_key="theirs") as router,
    ):
        await router.client.get("/v1/x", headers={"X-Api-Key": "mine", "Authorization": "Bearer mine"})
    (request,) = [request for request in server.received if b"/v1/x" in request.line]
    assert request.line == b"GET /llm/v1/x HTTP/1.1"
    assert request.headers[b"authorization"] == b"Bearer theirs"
    assert b"x-api-key" not in request.headers


async def test_a_router_with_keys_asks_for_one() -> None:
    """Probes need no key, everything else does, and errors have the form of the API."""
    server_config = ServerConfig(port=0, shutdown_timeout=0, api_keys=("k",))
    async with scripted(answering(OK)) as server, running_router(server.url, server=server_config) as router:
        assert (await router.client.get("/ready")).status_code == 200
        assert (await router.client.get("/metrics")).status_code == 401
        refused = await router.client.post("/v1/messages", json={})
        assert (refused.status_code, refused.json()["type"]) == (401, "error")
        with_key = await router.client.get("/v1/x", headers={"X-Api-Key": "k"})
        assert with_key.status_code == 200
    assert len(server.received) == 1


async def test_a_long_body_is_refused_unread() -> None:
    """A body beyond the limit does not reach a server."""
    limited = ServerConfig(port=0, shutdown_timeout=0, max_body_bytes=100)
    async with scripted(answering(OK)) as server, running_router(server.url, server=limited) as router:
        for content in (b"x" * 101, portions()):
            reply = await router.client.post("/v1/completions", content=content)
            assert (reply.status_code, reply.json()["error"]["code"]) == (413, "body_too_large")
    assert server.received == []


async def portions() -> AsyncIterator[bytes]:
    """A body whose length is not known before its end."""
    for _ in range(11):
        yield b"x" * 10


async def test_a_client_that_does_not_read_slows_the_server_down() -> None:
    """What is read ahead of a slow client is bounded, and nothing of it is lost."""
    sent = 0
    portion = chunk(b"data: " + b"x" * 65_000 + b"\n\n")
    size = 60_000_000

    async def answer(asked: Asked) -> None:
        nonlocal sent
        await asked.send(STREAM)
        while sent < size:
            await asked.send(portion)
            sent += len(portion)
        await asked.send(END)

    async with (
        scripted(answer) as server,
        running_router(server.url) as router,
        router.client.stream("POST", "/v1/completions", json={}) as reply,
    ):
        parts = reply.aiter_raw()
        received = len(await anext(parts))
        before = -1
        while before != sent:  # until the server can't send any more
            before = sent
            for _ in range(20):
                await router.client.get("/health")
        assert sent < size / 2
        async for part in parts:
            received += len(part)
    assert received == sent // len(portion) * len(b"data: " + b"x" * 65_000 + b"\n\n")


async def test_models_of_all_servers_are_listed() -> None:
    """Servers with different models have one list, and each model's requests go where it is."""
    async with scripted(answering(OK)) as one, scripted(answering(OK)) as other:
        other.models = json_reply(b'{"object":"list","data":[{"id":"e","owned_by":"x"}]}')
        async with running_router(one.url, other.url) as router:
            listing = (await router.client.get("/v1/models")).json()
            assert sorted(card["id"] for card in listing["data"]) == ["e", "m"]
            for _ in range(3):
                reply = await router.client.post("/v1/embeddings", json={"model": "e", "input": "x"})
                assert reply.headers["x-routed-to"] == other.name
            card = await router.client.get("/v1/models/e")
            assert card.headers["x-routed-to"] == other.name


@pytest.mark.parametrize("path", ["/", "/v1/models/m", "/nothing"])
async def test_whatever_the_router_does_not_know_goes_to_a_server(path: str) -> None:
    """The router needs no list of paths."""
    async with scripted(answering(OK)) as server, running_router(server.url) as router:
        reply = await router.client.get(path)
        assert (reply.content, reply.headers["x-routed-to"]) == (b'{"a": 1}', server.name)


async def test_head_is_answered_without_a_body() -> None:
    """HEAD is answered as GET is, also on the connections that are used again."""
    async with scripted(answering(OK)) as server, running_router(server.url) as router:
        for _ in range(3):
            reply = await router.client.head("/v1/x")
            assert (reply.status_code, reply.content) == (200, b"")


async def test_metrics_of_all_servers_are_one_text() -> None:
    """Each server's samples have its name; the router's own are beside them, and families are there once."""
    async with (
        scripted(answering(OK)) as one,
        scripted(answering(OK)) as other,
        running_router(one.url, other.url) as router,
    ):
        one.metrics = other.metrics = metrics_reply('# HELP a An a.\n# TYPE a gauge\na{model="m"} 1\na 2\n')
        await router.chat()
        text = (await router.client.get("/metrics")).text
    assert text.count("# TYPE a gauge") == 1
    for server in (one, other):
        assert f'a{{server="{server.name}",model="m"}} 1' in text
        assert f'a{{server="{server.name}"}} 2' in text
        assert f'mlc_serve_router_server_up{{server="{server.name}"}} 1.0' in text
    assert 'process_resident_memory_bytes{server="router"}' in text
    assert 'outcome="ok"' in text
    assert "_created" not in text


async def test_errors_of_servers_are_passed_on() -> None:
    """A request that a server refuses is not tried elsewhere."""
    refusal = json_reply(json.dumps({"error": {"code": "x"}}).encode(), b"400 Bad Request")
    async with (
        scripted(answering(refusal)) as one,
        scripted(answering(refusal)) as other,
        running_router(one.url, other.url) as router,
    ):
        reply: httpx.Response = await router.chat()
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "x")
    assert len(one.received) + len(other.received) == 1

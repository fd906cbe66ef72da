"""One connection to a server: how replies end, and what is not accepted as one."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from mlc_serve.errors import ServerLostError
from mlc_serve.router.address import Address
from mlc_serve.router.message import ReplyHead, ReplyPart, RoutedRequest
from mlc_serve.router.upstream import Upstream
from tests.router.scripted_server import END, STREAM, Asked, answering, chunk, json_reply, scripted

GET = RoutedRequest("GET", "/x", b"/x", (), b"")


async def parts_of(upstream: Upstream, request: RoutedRequest = GET) -> tuple[ReplyPart, bytes]:
    """The head and the body of a reply."""
    async with aclosing(upstream.reply(request, "id")) as reply:
        head, *parts = [part async for part in reply]
    return head, b"".join(part for part in parts if isinstance(part, bytes))


@pytest.mark.parametrize(
    ("portions", "body"),
    [
        ([json_reply(b"whole")], b"whole"),
        ([STREAM, chunk(b"a"), chunk(b"b"), END], b"ab"),
        ([STREAM + chunk(b"a") + END], b"a"),
        ([b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", json_reply(b"late")], b"late"),
        ([b"HTTP/1.1 204 No Content\r\n\r\n"], b""),
    ],
)
async def test_replies_end_where_http_says(portions: list[bytes], body: bytes) -> None:
    """The connection is used again for the next request."""
    connections = set()

    async def answer(asked: Asked) -> None:
        connections.add(asked.connection)
        await asked.send(*portions)

    async with scripted(answer) as server:
        upstream = Upstream(Address.of(server.url))
        for _ in range(3):
            head, got = await parts_of(upstream)
            assert isinstance(head, ReplyHead)
            assert got == body
        assert upstream.num_busy == 0
        upstream.close()
    assert len(connections) == 1


async def test_a_reply_may_end_with_its_connection() -> None:
    """Without a length or chunks, the body ends where the connection does."""

    async def answer(asked: Asked) -> None:
        await asked.send(b"HTTP/1.1 200 OK\r\n\r\nuntil", b" the end")
        asked.close()

    async with scripted(answer) as server:
        assert (await parts_of(Upstream(Address.of(server.url))))[1] == b"until the end"


@pytest.mark.parametrize(
    "portion",
    [
        b"nonsense\r\n\r\n",
        json_reply(b"whole")[:-1],
        STREAM + chunk(b"a"),
        STREAM + b"x\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000,
        b"",
    ],
)
async def test_what_is_not_a_whole_reply_is_an_error(portion: bytes) -> None:
    """A server that breaks HTTP's rules, or ends too early, is lost."""

    async def answer(asked: Asked) -> None:
        await asked.send(portion)
        asked.close()

    async with scripted(answer) as server:
        upstream = Upstream(Address.of(server.url))
        with pytest.raises(ServerLostError) as caught:
            await parts_of(upstream)
        assert caught.value.was_sent
        assert upstream.num_busy == 0


async def test_a_server_that_can_not_be_reached_has_received_nothing() -> None:
    """So another server may get the request, whatever it is."""
    async with scripted(answering(b"")) as server:
        upstream = Upstream(Address.of(server.url))
    with pytest.raises(ServerLostError) as caught:
        await parts_of(upstream)
    assert not caught.value.was_sent


async def test_a_connection_that_the_server_has_closed_is_replaced() -> None:
    """A server may close a connection after every reply; what may not be repeated gets a new one at once."""

    async def answer(asked: Asked) -> None:
        await asked.send(json_reply(b"whole"))
        asked.close()

    async with scripted(answer) as server:
        upstream = Upstream(Address.of(server.url))
        for request in (GET, GET, GET._replace(method="POST", body=b"1"), GET):
            assert (await parts_of(upstream, request))[1] == b"whole"
        assert len(server.received) == 4


async def test_a_reply_that_is_not_read_to_its_end_closes_the_connection() -> None:
    """So the server knows that nobody waits for the rest."""
    gone = asyncio.Event()

    async def answer(asked: Asked) -> None:
        await asked.send(STREAM, chunk(b"a"))
        await asked.gone()
        gone.set()

    async with scripted(answer) as server:
        async with aclosing(Upstream(Address.of(server.url)).reply(GET, "id")) as reply:
            assert isinstance(await anext(reply), ReplyHead)
            assert await anext(reply) == b"a"
        await gone.wait()

"""The load generator's client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from mlc_serve.bench.event_client import EventClient

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
Script = Callable[[], list[bytes]]


@asynccontextmanager
async def serving(*replies: list[bytes]) -> AsyncIterator[tuple[EventClient, list[int]]]:
    """A client of a server that sends each reply in these portions, and a list of the connections that were
    used. After a reply that ends in b"" the server closes the connection.
    """
    waiting, asked_on, num_connections = list(replies), [], 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal num_connections
        num_connections += 1
        own = num_connections
        while waiting and await reader.readline():
            headers = await reader.readuntil(b"\r\n\r\n")
            (length,) = [int(line[16:]) for line in headers.split(b"\r\n") if line.startswith(b"Content-Le")]
            await reader.readexactly(length)
            asked_on.append(own)
            for portion in (reply := waiting.pop(0)):
                writer.write(portion)
                await writer.drain()
                await asyncio.sleep(0)
            if reply[-1] == b"":
                break
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server, EventClient(f"http://{host}:{port}") as client:
        yield client, asked_on


async def lines(client: EventClient) -> list[str]:
    """All non-empty lines of a reply."""
    return [line async for line in client.post("/x", {"a": 1}) if line]


async def test_lines_are_put_together_across_chunks() -> None:
    """Neither chunks nor portions of the connection split lines."""
    reply = [CHUNKED + b"9\r\ndata: a\n\n\r\n5\r\nda", b"ta:\r\n3\r\n b\n\r\n0\r\n\r\n"]
    async with serving(reply) as (client, _):
        assert await lines(client) == ["data: a", "data: b"]


async def test_lines_end_where_those_of_event_streams_do() -> None:
    """They end at CR, LF or both, and at no other character that is sometimes taken for the end of a line."""
    text = "a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg"
    body = f"data: {text}\r\ndata: two\r\rdata: three".encode()
    reply = [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)]
    reply += [body[i : i + 1] for i in range(len(body))]
    async with serving(reply) as (client, _):
        assert await lines(client) == [f"data: {text}", "data: two", "data: three"]


async def test_connections_are_used_again() -> None:
    """The next request uses a connection whose reply is complete."""
    whole = [CHUNKED + b"1\r\na\r\n0\r\n\r\n"]
    async with serving(whole, whole) as (client, asked_on):
        assert [await lines(client) for _ in range(2)] == [["a"], ["a"]]
        assert asked_on == [1, 1]


async def test_a_refusal_is_raised() -> None:
    """The error for a status other than 200 contains the server's text."""
    reply = [b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nfull"]
    async with serving(reply) as (client, _):
        with pytest.raises(RuntimeError, match="status 503: full"):
            await lines(client)


async def test_half_a_reply_is_no_reply() -> None:
    """A server that closes the connection in mid-stream is not counted as having answered."""
    async with serving([CHUNKED + b"1\r\na\r\n", b""]) as (client, _):
        with pytest.raises(ConnectionError):
            await lines(client)

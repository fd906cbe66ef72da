"""A server on a real socket whose answers a test writes, byte for byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

HEALTHY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
UNKNOWN = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
SICK = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def json_reply(body: bytes, status: bytes = b"200 OK", headers: bytes = b"") -> bytes:
    """A whole reply with a JSON body; `headers` are further lines."""
    length = b"Content-Length: %d\r\n" % len(body)
    return b"HTTP/1.1 %s\r\nContent-Type: application/json\r\n%s%s\r\n%s" % (status, length, headers, body)


def metrics_reply(text: str) -> bytes:
    """A reply to /metrics."""
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text.encode())


def chunk(data: bytes) -> bytes:
    """A chunk of a streamed body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


class Received(NamedTuple):
    """A request as it has arrived."""

    line: bytes
    headers: dict[bytes, bytes]
    body: bytes


Answer = Callable[["Asked"], Awaitable[None]]


class Asked:
    """One request, which an answer reads and replies to."""

    def __init__(self, request: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.request = request
        self._reader = reader
        self._writer = writer

    async def send(self, *portions: bytes) -> None:
        """Send portions of a reply."""
        for portion in portions:
            self._writer.write(portion)
            await self._writer.drain()

    @property
    def connection(self) -> object:
        """What tells connections apart."""
        return self._writer.get_extra_info("peername")

    def close(self) -> None:
        """Close the connection when all has been sent."""
        self._writer.close()

    def cut(self) -> None:
        """Close the connection at once."""
        self._writer.transport.abort()

    async def gone(self) -> None:
        """Wait until the router has closed the connection."""
        with suppress(ConnectionError):
            await self._reader.read()


class ScriptedServer:
    """Answers probes by itself, and everything else with `answer`. `received` holds what it was sent.

    It has no /metrics, unless a test says what these are.
    """

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.probe = HEALTHY
        self.models = json_reply(b'{"object":"list","data":[{"id":"m"}]}')
        self.metrics = UNKNOWN
        self.received: list[Received] = []
        self.num_open = 0
        self.url = ""

    @property
    def name(self) -> str:
        """The name that the router gives it."""
        return self.url.removeprefix("http://")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        self.num_open += 1
        try:
            while request := await _read(reader):
                path = request.line.split()[1]
                if path == b"/health":
                    writer.write(self.probe)
                elif path == b"/v1/models":
                    writer.write(self.models)
                elif path == b"/metrics":
                    writer.write(self.metrics)
                else:
                    self.received.append(request)
                    await self.answer(Asked(request, reader, writer))
                await writer.drain()
        except ConnectionError:
            return
        finally:
            self.num_open -= 1
            writer.close()


async def _read(reader: asyncio.StreamReader) -> Received | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    line, *lines = head[:-4].split(b"\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (entry.partition(b":") for entry in lines)}
    body = await reader.readexactly(int(headers.get(b"content-length", b"0")))
    return Received(line, headers, body)


@asynccontextmanager
async def scripted(answer: Answer, port: int = 0) -> AsyncIterator[ScriptedServer]:
    """A running server; 0 chooses any free port. It is gone, with all its connections, after the block."""
    own = ScriptedServer(answer)
    connections: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            await own.serve(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    own.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield own
    finally:
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


def answering(*portions: bytes) -> Answer:
    """An answer that is always the same."""

    async def answer(asked: Asked) -> None:
        await asked.send(*portions)

    return answer

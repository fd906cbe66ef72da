"""An HTTP client that reads streams at little cost: a load generator shares the machine that it measures.

Each connection carries one request at a time; connections are kept and reused. Knows no API.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from typing import cast
from urllib.parse import urlsplit

import httptools


class ReplyError(RuntimeError):
    """The server's reply is not what was asked for."""


class EventClient:
    """Posts JSON to one server, on one connection for each concurrent request."""

    def __init__(self, url: str, api_key: str | None = None, trust: ssl.SSLContext | None = None) -> None:
        """`url` gives the scheme, host and port; each request gives its own path. `trust` has the authorities
        for https://; without it, they are the system's.
        """
        address = urlsplit(url)
        if address.hostname is None:
            raise ValueError(f"{url!r} names no host")
        is_secure = address.scheme == "https"
        self._tls = (trust or True) if is_secure else None
        self._host, self._port = address.hostname, address.port or (443 if is_secure else 80)
        self._authorization = f"Authorization: Bearer {api_key}\r\n" if api_key else ""
        self._idle: list[_Connection] = []

    async def __aenter__(self) -> EventClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        for connection in self._idle:
            connection.close()

    async def post(self, path: str, body: Mapping[str, object]) -> AsyncIterator[str]:
        """Yield the non-empty lines of the reply as they arrive.

        Raises ReplyError unless its status is 200, and ConnectionError if the server closes the connection.
        """
        connection = await self._connection()
        whole = False
        try:
            connection.send(self._request(path, json.dumps(body).encode()))
            async for line in connection.lines():
                yield line
            whole = True
        finally:
            if whole and connection.reusable:
                self._idle.append(connection)
            else:
                connection.close()

    async def _connection(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable:
                return connection
        loop = asyncio.get_running_loop()
        _, opened = await loop.create_connection(_Connection, self._host, self._port, ssl=self._tls)
        return opened

    def _request(self, path: str, content: bytes) -> bytes:
        headers = (
            f"Host: {self._host}:{self._port}\r\n{self._authorization}Content-Type: application/json\r\n"
        )
        return f"POST {path} HTTP/1.1\r\n{headers}Content-Length: {len(content)}\r\n\r\n".encode() + content


class _Connection(asyncio.Protocol):
    """One connection. The HTTP parser calls its `on_` methods by these names."""

    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport
        self._parser: httptools.HttpResponseParser
        self._received = b""
        self._arrival: asyncio.Future[None] | None = None  # while the reader waits
        self._complete = False
        self.reusable = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, _: Exception | None) -> None:
        self.reusable = False
        self._wake_reader()

    def on_body(self, body: bytes) -> None:
        """A part of the reply, without the framing of chunks."""
        self._received += body
        self._wake_reader()

    def on_message_complete(self) -> None:
        """Note that the reply is complete."""
        self._complete = True
        self.reusable = self.reusable and self._parser.should_keep_alive()
        self._wake_reader()

    def send(self, request: bytes) -> None:
        """Send a request."""
        self._complete = False
        self._parser = httptools.HttpResponseParser(self)
        self._transport.write(request)

    def close(self) -> None:
        """Close the connection at once. TLS would wait for the server, perhaps longer than the loop runs."""
        self._transport.abort()

    async def lines(self) -> AsyncIterator[str]:
        """Yield the reply's non-empty lines. As in event streams, a line ends with CR, LF or both."""
        rest = b""
        while received := await self._take():
            self._check_status(received)
            *whole, rest = (rest + received).splitlines(keepends=True)
            if rest.endswith((b"\r", b"\n")):
                whole, rest = [*whole, rest], b""
            for line in whole:
                if text := line.rstrip(b"\r\n"):
                    yield text.decode()
        if rest:
            yield rest.decode()

    async def _take(self) -> bytes:
        """What has arrived since the last call; nothing at the end of the reply."""
        while not (self._received or self._complete):
            if self._transport.is_closing():
                raise ConnectionError("the server closed the connection before its reply was complete")
            self._arrival = asyncio.get_running_loop().create_future()
            await self._arrival
        received, self._received = self._received, b""
        return received

    def _wake_reader(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def _check_status(self, body: bytes) -> None:
        status = self._parser.get_status_code()
        if status != 200:
            raise ReplyError(f"status {status}: {body.decode()}")

"""Connection: one connection to a server, which carries one request at a time.

It reads no more than a few hundred kilobytes ahead of its reader, so that a slow client slows its server
down.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import httptools

from mlc_serve.errors import ServerLostError
from mlc_serve.router.message import ReplyHead

_MOST_HEAD_BYTES = 128 * 1024
# Reading pauses while more than this many bytes of a body wait for their reader.
_MOST_WAITING_BYTES = 256 * 1024
_BODYLESS = frozenset({204, 304})


class Connection(asyncio.Protocol):
    """A connection to a server. The HTTP parser calls its `on_` methods by these names.

    `used` is the event loop's time at which the last reply ended.
    """

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._parser: httptools.HttpResponseParser | None = None
        self._arrival: asyncio.Future[None] | None = None  # while the reader waits
        self._is_lost = False
        self._is_paused = False
        self._keeps_alive = False
        self._expect_reply(is_head=False)
        self.used = 0.0

    def _expect_reply(self, *, is_head: bool) -> None:
        self._is_head = is_head  # whether the request was HEAD, so that the reply has no body
        self._headers: list[tuple[bytes, bytes]] = []
        self._num_head_bytes = 0
        self._reply: ReplyHead | None = None
        self._waiting: list[bytes] = []
        self._num_waiting = 0
        self._ends_with_connection = False
        self._is_complete = False

    @property
    def is_reusable(self) -> bool:
        """Whether another request may be sent."""
        return self._is_complete and self._keeps_alive and not self._is_lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note that the connection is open."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse what the server has sent. Close the connection if it is not HTTP, or not asked for."""
        if self._parser is None or self._is_complete:
            self.close()
            return
        if self._reply is None:
            self._num_head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.close()
        if self._reply is None and self._num_head_bytes > _MOST_HEAD_BYTES:
            self.close()
        self._wake_reader()

    def connection_lost(self, error: Exception | None) -> None:
        """Note the end of the connection, which is also the end of a body without any other."""
        self._is_lost = True
        if self._reply is not None and self._ends_with_connection and error is None:
            self._is_complete = True
        self._wake_reader()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header."""
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Note that the head of a reply is complete."""
        if self._parser is None:
            return
        status = self._parser.get_status_code()
        headers, self._headers = tuple(self._headers), []
        if status < 200:  # another head follows
            return
        self._reply = ReplyHead(status, headers)
        if self._is_head:
            self._is_complete, self._keeps_alive = True, False  # the parser would wait for a body
            return
        framing = {name for name, _ in headers} & {b"content-length", b"transfer-encoding"}
        self._ends_with_connection = not framing and status not in _BODYLESS

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body until it is read."""
        self._waiting.append(body)
        self._num_waiting += len(body)
        if self._num_waiting > _MOST_WAITING_BYTES and not self._is_paused:
            self._transport.pause_reading()
            self._is_paused = True

    def on_message_complete(self) -> None:
        """Note that the reply is complete."""
        if self._reply is None or self._parser is None:
            return
        self._is_complete = True
        self._keeps_alive = not self._is_head and self._parser.should_keep_alive()

    def send(self, request: bytes, *, is_head: bool) -> None:
        """Send a request."""
        self._expect_reply(is_head=is_head)
        self._parser = httptools.HttpResponseParser(self)
        self._transport.write(request)

    async def head(self) -> ReplyHead:
        """Return the head of the reply. Raises ServerLostError."""
        while self._reply is None:
            await self._news()
        return self._reply

    async def body(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives. Raises ServerLostError if it ends early."""
        while True:
            if self._waiting:
                part, self._waiting, self._num_waiting = b"".join(self._waiting), [], 0
                self._resume()
                yield part
            elif self._is_complete:
                return
            else:
                await self._news()

    def close(self) -> None:
        """Close the connection at once. The server then ends the request. May be called twice."""
        self._is_lost = True
        self._transport.abort()
        self._wake_reader()

    async def _news(self) -> None:
        """Wait until something has arrived. Raises ServerLostError if nothing can."""
        if self._is_lost:
            raise ServerLostError("The server that was to answer has closed the connection.")
        self._arrival = asyncio.get_running_loop().create_future()
        await self._arrival

    def _resume(self) -> None:
        if self._is_paused and not self._is_lost:
            self._transport.resume_reading()
        self._is_paused = False

    def _wake_reader(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

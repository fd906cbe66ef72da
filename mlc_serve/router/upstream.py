"""Upstream: the connections to one server."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator

from mlc_serve.errors import ServerLostError
from mlc_serve.router.address import Address
from mlc_serve.router.connection import Connection
from mlc_serve.router.message import ReplyPart, RoutedRequest

CONNECT_SECONDS = 5.0
# An unused connection is closed after so many seconds. Many servers close theirs after five.
_IDLE_SECONDS = 4.0
_MOST_IDLE = 64
# A connection that ends so soon after a request was sent had been closed by the server before.
_STALE_SECONDS = 1.0
# The system asks a silent peer after so many seconds whether it is still there, and how often it does.
_KEEPALIVE = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}


class Upstream:
    """Sends requests to the server at an address, each on a connection of its own.

    `tls` has the authorities for an https:// address; None stands for the system's.
    """

    def __init__(self, address: Address, tls: ssl.SSLContext | None = None) -> None:
        self.address = address
        self._tls: ssl.SSLContext | bool | None = (tls or True) if address.scheme == "https" else None
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()

    @property
    def num_busy(self) -> int:
        """How many connections carry a request."""
        return len(self._busy)

    async def reply(
        self, request: RoutedRequest, request_id: str, api_key: str | None = None
    ) -> AsyncGenerator[ReplyPart, None]:
        """Send a request, and yield the head and the parts of the body of the reply. If the generator is
        closed early, the connection is closed.

        Raises ServerLostError, before the head or after it.
        """
        sent = request.as_sent(self.address.netloc, self.address.prefix, request_id, api_key)
        connection = self._reused() if request.is_repeatable else None
        try:
            if connection is not None and await self._is_stale(connection, sent, request):
                self._release(connection)
                connection = None
            if connection is None:
                connection = await self._opened()
                connection.send(sent, is_head=request.method == "HEAD")
            yield await connection.head()
            async for part in connection.body():
                yield part
        finally:
            if connection is not None:
                self._release(connection)

    def close(self) -> None:
        """Close all connections. Replies that are being read end with ServerLostError."""
        for connection in [*self._idle, *self._busy]:
            connection.close()
        self._idle.clear()

    def _reused(self) -> Connection | None:
        """Return a connection that has carried a request before, if there is one."""
        oldest = asyncio.get_running_loop().time() - _IDLE_SECONDS
        while self._idle:
            connection = self._idle.pop()
            if connection.is_reusable and connection.used >= oldest:
                self._busy.add(connection)
                return connection
            connection.close()
        return None

    async def _is_stale(self, connection: Connection, sent: bytes, request: RoutedRequest) -> bool:
        """Send a request on a connection that was used before. Return whether the server has closed it
        meanwhile, as it may after every reply; if not, the head of the reply is there.
        """
        clock = asyncio.get_running_loop().time
        start = clock()
        connection.send(sent, is_head=request.method == "HEAD")
        try:
            await connection.head()
        except ServerLostError:
            if clock() - start > _STALE_SECONDS:
                raise
            return True
        return False

    async def _opened(self) -> Connection:
        loop, address = asyncio.get_running_loop(), self.address
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                transport, connection = await loop.create_connection(
                    Connection, address.host, address.port, ssl=self._tls
                )
        except OSError as error:  # TimeoutError and errors of TLS are among these
            why = error.strerror or str(error) or type(error).__name__
            raise ServerLostError(f"No connection to {address.netloc}: {why}.", was_sent=False) from error
        self._busy.add(connection)
        _watch_peer(transport.get_extra_info("socket"))
        return connection

    def _release(self, connection: Connection) -> None:
        """Keep a connection for the next request if its reply was read to the end, and close it if not."""
        self._busy.discard(connection)
        if connection.is_reusable and len(self._idle) < _MOST_IDLE:
            connection.used = asyncio.get_running_loop().time()
            self._idle.append(connection)
        else:
            connection.close()


def _watch_peer(sock: socket.socket) -> None:
    """Have the system find out if the peer's machine is gone, so that no reply is waited for in vain."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):  # not on every system
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

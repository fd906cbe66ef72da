"""The TLS handshake of one connection.

asyncio could do it alone, but then nobody would know of a connection before its handshake is complete, and
clients that never finish one could open as many connections as they like.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, cast

from mlc_serve.errors import RequestError
from mlc_serve.server.connections import Connections, Phase


class TLSHandshake(asyncio.Protocol):
    """A connection until its handshake is complete. Then the protocol that `make` returns takes over.

    Implements connections.Waiting. Everything runs on the event loop.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        connections: Connections,
        make: Callable[..., asyncio.Protocol],
        **settings: Any,
    ) -> None:
        self._context = context
        self._all = connections
        self._make = make
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._early = bytearray()  # what has arrived, but is for the next protocol
        self._is_lost = False
        self.phase = Phase.HANDSHAKE
        self.since = self._loop.time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the new connection, and begin the handshake."""
        self._transport = cast("asyncio.Transport", transport)
        self._all.changed(self)
        self._all.opened(self)
        self._task = self._loop.create_task(self._shake_hands())

    def data_received(self, data: bytes) -> None:
        """Keep what arrives before the next protocol takes over."""
        self._early += data

    def connection_lost(self, _error: Exception | None) -> None:
        """Forget the connection."""
        self._is_lost = True
        self._all.closed(self)

    def update(self) -> None:
        """Do nothing, since there is only one phase."""

    def expire(self) -> None:
        """Close. A client that has not finished its handshake can't be told why."""
        self.cut()

    def cut(self) -> None:
        """Close at once."""
        self._transport.abort()

    def finish(self) -> None:
        """Do nothing, since the client waits for its first answer."""

    def serve_probes_only(self, refusal: RequestError) -> None:
        """Do nothing. The next protocol is told, too, when it takes over."""

    async def _shake_hands(self) -> None:
        if self._transport.is_closing():
            return
        # uvloop may have read the client's first bytes by now. start_tls pauses reading, so that they are fed
        # before any others.
        self._loop.call_soon(self._feed_handshake, self._taken())
        try:
            encrypted = await self._loop.start_tls(self._transport, self, self._context, server_side=True)
        except OSError:  # the client has broken off, or speaks no TLS
            encrypted = None
        finally:
            self._all.closed(self)
        # A transport that was lost during the handshake has no cipher.
        if encrypted is not None and encrypted.get_extra_info("cipher") and not self._is_lost:
            self._hand_over(encrypted)

    def _hand_over(self, encrypted: asyncio.Transport) -> None:
        protocol = self._make(**self._settings)
        encrypted.set_protocol(protocol)
        protocol.connection_made(encrypted)
        if early := self._taken():
            protocol.data_received(early)

    def _feed_handshake(self, early: bytes) -> None:
        """Give bytes to the protocol that does the handshake, in the way in which transports do."""
        handshake = cast("asyncio.BufferedProtocol", self._transport.get_protocol())
        rest = memoryview(early)
        while rest:
            buffer = cast("memoryview", handshake.get_buffer(len(rest)))
            size = min(len(rest), len(buffer))
            buffer[:size] = rest[:size]
            handshake.buffer_updated(size)
            rest = rest[size:]

    def _taken(self) -> bytes:
        early, self._early = bytes(self._early), bytearray()
        return early

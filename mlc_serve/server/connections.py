"""All connections of a server: limits how many are open and how long each may wait for its client.

    HEADERS ── complete ──> BODY ── complete ──> ANSWER ── sent ──> IDLE ── first byte ──> HEADERS
        └── too large, too late ──> CLOSING        └─ not read ─> UNREAD ── read ──> ANSWER

With TLS, HANDSHAKE comes before HEADERS. A connection that waits for its client (in all phases except ANSWER)
may be closed to make room for a new one. While the server drains, a connection ends instead of becoming IDLE,
so that its client asks another server next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum
from typing import Protocol

import psutil

from mlc_serve.config import ServerConfig
from mlc_serve.errors import RequestError, TooManyConnectionsError

SWEEP_SECONDS = 0.5
# How many seconds a complete reply or a refusal may take to be sent before a closing connection is cut.
CLOSING_SECONDS = 10.0
MOST_CONNECTIONS = 1024
# File descriptors that are kept free for files, and for probes on connections beyond the limit.
_NUM_OTHER_FILES = 40
_UNLIMITED = -1


class Phase(Enum):
    """What a connection waits for. The values complete the sentence "waiting for ..."."""

    HANDSHAKE = "the TLS handshake"
    HEADERS = "the headers of a request"
    BODY = "the body of a request"
    ANSWER = "the server's answer"
    UNREAD = "its client to read what was sent"
    IDLE = "a further request"
    CLOSING = "its end"


class Waiting(Protocol):
    """A connection that may have to wait. It has been in its `phase` since the event loop's time `since`."""

    phase: Phase
    since: float

    def update(self) -> None:
        """Find out the phase, and report it if it has changed."""

    def expire(self) -> None:
        """Close, after telling the client that it was too slow if it waits for an answer."""

    def cut(self) -> None:
        """Close at once, even if there is something left to send."""

    def finish(self) -> None:
        """Close after sending what is left, unless a request has arrived."""

    def serve_probes_only(self, refusal: RequestError) -> None:
        """Answer nothing but probes; everything else is refused for this reason."""


def max_connections(config: ServerConfig) -> int:
    """Return the configured limit, or else as many connections as the limit of open files leaves room for."""
    if config.max_connections is not None:
        return config.max_connections
    return max(1, min(MOST_CONNECTIONS, _num_free_files() - _NUM_OTHER_FILES))


def _num_free_files() -> int:
    """Return how many files this process may still open. Windows has no such limit."""
    process = psutil.Process()
    if not hasattr(process, "rlimit"):
        return MOST_CONNECTIONS * 2
    most, _ = process.rlimit(psutil.RLIMIT_NOFILE)
    return MOST_CONNECTIONS * 2 if most == _UNLIMITED else int(most - process.num_fds())


class Connections:
    """The open connections of one event loop. `on_activity` is called when bytes have arrived."""

    def __init__(self, config: ServerConfig, on_activity: Callable[[], None]) -> None:
        self.max_header_bytes = config.max_header_bytes
        self.on_activity = on_activity
        self.needs_certificate = config.ssl_ca_certs is not None
        self._limit = max_connections(config)
        self._patience = {
            Phase.HANDSHAKE: config.header_timeout,
            Phase.HEADERS: config.header_timeout,
            Phase.BODY: config.body_timeout,
            Phase.UNREAD: config.send_timeout,
            Phase.CLOSING: CLOSING_SECONDS,
        }
        self._open: set[Waiting] = set()
        self._waiting: dict[Waiting, None] = {}  # in the order in which they began to wait
        self._is_sweeping = False
        self._is_draining = False

    def opened(self, connection: Waiting) -> None:
        """Add a new connection. The one that has waited longest is closed if there are too many."""
        self._open.add(connection)
        if len(self._open) > self._limit:
            self._make_room(connection)
        if not self._is_sweeping:
            self._sweep_later()

    def changed(self, connection: Waiting) -> None:
        """Note that a connection has entered another phase."""
        self._waiting.pop(connection, None)
        if connection.phase is not Phase.ANSWER:
            self._waiting[connection] = None
        if self._is_draining and connection.phase is Phase.IDLE:
            connection.finish()

    def closed(self, connection: Waiting) -> None:
        """Forget a closed connection."""
        self._open.discard(connection)
        self._waiting.pop(connection, None)

    def drain(self) -> None:
        """Close the connections that wait for a further request, now and from now on."""
        self._is_draining = True
        for connection in list(self._open):
            connection.update()
            if connection.phase is Phase.IDLE:
                connection.finish()

    def _make_room(self, newest: Waiting) -> None:
        oldest = next(iter(self._waiting))
        if oldest is not newest:
            self.closed(oldest)
            oldest.cut()
        if len(self._open) > self._limit:
            newest.serve_probes_only(
                TooManyConnectionsError("The server has reached its limit of open connections.")
            )

    def _sweep_later(self) -> None:
        self._is_sweeping = True
        asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        now = asyncio.get_running_loop().time()
        for connection in list(self._open):
            connection.update()
            if now - connection.since > self._patience.get(connection.phase, float("inf")):
                connection.expire()
        self._is_sweeping = False
        if self._open:
            self._sweep_later()

"""All connections of a server: how many there are, and which of them have waited too long for their clients.

    HEADERS ── complete ──> BODY ── complete ──> ANSWER ── sent ──> IDLE ── first byte ──> HEADERS
        └── too large, too late ──> CLOSING        └─ not read ─> UNREAD ── read ──> ANSWER

A connection that waits for its client (in all states but ANSWER) may be closed to make room for a new one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum
from typing import Protocol

import psutil

from mlc_serve.config import ServerConfig

SWEEP_SECONDS = 0.5
# How long a reply that is complete, or a refusal, may take to get out before the connection is cut.
CLOSING_SECONDS = 10.0
MOST_CONNECTIONS = 1024
# Files that may be opened while the server serves, and connections beyond the limit that ask for its health.
_NUM_OTHER_FILES = 40
_UNLIMITED = -1


class Phase(Enum):
    """What a connection is waiting for."""

    HEADERS = "the headers of a request"
    BODY = "the body of a request"
    ANSWER = "the server's answer"
    UNREAD = "its client to read what was sent"
    IDLE = "a further request"
    CLOSING = "its end"


class Waiting(Protocol):
    """A connection as it is seen from here."""

    phase: Phase
    since: float

    def update(self) -> None:
        """Find out the phase."""

    def expire(self) -> None:
        """Tell the client that it is too late, and close."""

    def cut(self) -> None:
        """Close at once, whatever is left to send."""

    def serve_probes_only(self) -> None:
        """Answer nothing but probes."""


def max_connections(config: ServerConfig) -> int:
    """The limit that was set, or else what the process's open files leave room for."""
    if config.max_connections is not None:
        return config.max_connections
    return max(1, min(MOST_CONNECTIONS, _num_free_files() - _NUM_OTHER_FILES))


def _num_free_files() -> int:
    """How many files this process may still open. Windows has no limit of this kind."""
    process = psutil.Process()
    if not hasattr(process, "rlimit"):
        return MOST_CONNECTIONS * 2
    most, _ = process.rlimit(psutil.RLIMIT_NOFILE)
    return MOST_CONNECTIONS * 2 if most == _UNLIMITED else int(most - process.num_fds())


class Connections:
    """The open connections of one event loop. `on_activity` is called when bytes have come in."""

    def __init__(self, config: ServerConfig, on_activity: Callable[[], None]) -> None:
        self.max_header_bytes = config.max_header_bytes
        self.on_activity = on_activity
        self._limit = max_connections(config)
        self._patience = {
            Phase.HEADERS: config.header_timeout,
            Phase.BODY: config.body_timeout,
            Phase.UNREAD: config.send_timeout,
            Phase.CLOSING: CLOSING_SECONDS,
        }
        self._open: set[Waiting] = set()
        self._waiting: dict[Waiting, None] = {}  # in the order in which they began to wait
        self._is_sweeping = False

    def opened(self, connection: Waiting) -> None:
        """There is a new connection. Another one may have to make room for it."""
        self._open.add(connection)
        if len(self._open) > self._limit:
            self._make_room(connection)
        if not self._is_sweeping:
            self._sweep_later()

    def changed(self, connection: Waiting) -> None:
        """A connection has come to another phase."""
        self._waiting.pop(connection, None)
        if connection.phase is not Phase.ANSWER:
            self._waiting[connection] = None

    def closed(self, connection: Waiting) -> None:
        """A connection is no more."""
        self._open.discard(connection)
        self._waiting.pop(connection, None)

    def _make_room(self, newest: Waiting) -> None:
        oldest = next(iter(self._waiting))
        if oldest is not newest:
            self.closed(oldest)
            oldest.cut()
        if len(self._open) > self._limit:
            newest.serve_probes_only()

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

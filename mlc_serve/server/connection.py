"""One client's connection: Uvicorn's protocol with limits on what a client may send and how long it may take.

Uvicorn parses the requests and runs the application. This module watches it from outside, through the object
that Uvicorn keeps for each request (its "cycle"). A request that arrives while another is being answered is
held back as bytes, so that reading never pauses and a closed connection is always noticed.
"""

from __future__ import annotations

import asyncio
import ssl
from abc import abstractmethod
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from mlc_serve.config import ServerConfig
from mlc_serve.errors import (
    ClientCertificateError,
    HeadersTooLargeError,
    InvalidRequestError,
    RequestError,
    RequestTimeoutError,
)
from mlc_serve.server.connections import Connections, Phase
from mlc_serve.server.middleware.auth import OPEN_PATHS
from mlc_serve.server.middleware.errors import error_response
from mlc_serve.server.tls_handshake import TLSHandshake

if TYPE_CHECKING:
    from uvicorn.protocols.http.h11_impl import RequestResponseCycle as Cycle

    UvicornProtocol = H11Protocol
else:
    UvicornProtocol = object

_AWAITED = (Phase.HEADERS, Phase.BODY)
_ANSWERING = (Phase.ANSWER, Phase.UNREAD)
# At most this many bytes are parsed at once, since they may contain hundreds of requests.
_PIECE_BYTES = 16 * 1024


class Connection(UvicornProtocol):
    """The limits that are added to one of Uvicorn's protocols. Everything runs on the event loop."""

    def __init__(self, *args: Any, connections: Connections, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._all = connections
        self._num_pending = 0  # bytes since the parser last reported complete headers or a part of a body
        self._held = bytearray()
        self._is_ended = False  # if true, nothing more is read
        self.phase = Phase.HEADERS
        self.since = self.loop.time()

    def newest(self) -> Cycle | None:
        """Return the request whose headers have been parsed last, if any."""
        return self.cycle

    @abstractmethod
    def unanswered(self) -> Sequence[Cycle]:
        """Return the requests that have no complete answer, the oldest first."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Register the new connection."""
        super().connection_made(transport)
        self._all.changed(self)
        self._all.opened(self)
        if self._all.needs_certificate and not transport.get_extra_info("peercert"):
            self.serve_probes_only(ClientCertificateError("This server needs a client certificate."))

    def connection_lost(self, error: Exception | None) -> None:
        """Notify every request on this connection. Uvicorn notifies only the newest."""
        self._all.closed(self)
        self._end_requests()
        super().connection_lost(error)

    def data_received(self, data: bytes) -> None:
        """Parse or hold the bytes that have arrived."""
        self._all.on_activity()
        self._take(data)
        self.update()

    def on_response_complete(self) -> None:
        """Go on with the bytes that were held back while the answer was sent."""
        super().on_response_complete()
        if self._held:
            self.loop.call_soon(self._take_held)
        self.update()

    def pause_writing(self) -> None:
        """Note that the client does not read what is sent."""
        super().pause_writing()
        self.update()

    def resume_writing(self) -> None:
        """Note that the client has read."""
        super().resume_writing()
        self.update()

    def update(self) -> None:
        """Find out the phase, and report it if it has changed."""
        phase = self._current_phase()
        if phase in _ANSWERING:
            self.flow.resume_reading()  # Uvicorn has paused it if there is another request
        if phase is not self.phase:
            self.phase, self.since = phase, self.loop.time()
            self._all.changed(self)

    def expire(self) -> None:
        """Close, after telling the client that it was too slow if it waits for an answer."""
        if self.phase in _AWAITED and (self._num_pending or self.unanswered()):
            self._end_with(RequestTimeoutError(f"Timed out while waiting for {self.phase.value}."))
        else:
            self.cut()

    def cut(self) -> None:
        """Close at once, even if there is something left to send."""
        self.transport.abort()

    def finish(self) -> None:
        """Close after sending what is left, unless a request has arrived."""
        if not self._held:
            self.transport.close()

    def serve_probes_only(self, refusal: RequestError) -> None:
        """Answer nothing but probes; everything else is refused for this reason."""
        self.app = _probes_only(self.app, refusal)

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that are not valid HTTP, as Uvicorn does, but in the form of all our errors."""
        self._end_with(self._fault(msg))

    def _fault(self, msg: str) -> RequestError:
        return InvalidRequestError(msg)

    def _current_phase(self) -> Phase:
        if self._is_ended or self.transport.is_closing():
            return Phase.CLOSING
        if self._is_answering():
            return Phase.UNREAD if self.flow.write_paused else Phase.ANSWER
        newest = self.newest()
        if newest is not None and newest.more_body:
            return Phase.BODY
        return Phase.HEADERS if self._num_pending or newest is None else Phase.IDLE

    def _is_answering(self) -> bool:
        unanswered = self.unanswered()
        return bool(unanswered) and not unanswered[0].more_body

    def _take(self, data: bytes) -> None:
        """Parse piece by piece until a request is complete, and hold the rest."""
        rest = memoryview(data)
        while rest and not self._is_ended and not self.transport.is_closing():
            if self._held or self._is_answering():
                self._hold(rest)
                return
            size = min(_PIECE_BYTES, self._all.max_header_bytes - self._num_pending)
            self._parse(rest[:size])
            rest = rest[size:]

    def _parse(self, piece: memoryview) -> None:
        self._num_pending += len(piece)
        super().data_received(piece)  # type: ignore[arg-type]
        if self._num_pending >= self._all.max_header_bytes:
            self._end_with(self._too_large())

    def _too_large(self) -> HeadersTooLargeError:
        limit = self._all.max_header_bytes
        return HeadersTooLargeError(f"The headers are larger than the {limit} bytes that this server reads.")

    def _hold(self, rest: memoryview) -> None:
        """Keep the next request for later. Cut the connection if it is longer than headers may be."""
        self._held += rest
        if len(self._held) > self._all.max_header_bytes:
            self._held.clear()
            self.cut()

    def _take_held(self) -> None:
        held, self._held = bytes(self._held), bytearray()
        if not self.transport.is_closing():
            self._take(held)
            self.update()

    def _end_with(self, error: RequestError) -> None:
        """Send an error without a complete request, and read nothing more.

        What the client still sends is dropped until the connection times out: if it were closed at once, the
        client could lose the answer.
        """
        if self._is_ended or self.transport.is_closing():
            return
        self._is_ended = True
        self._end_requests()
        self.transport.write(_in_full(error))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:  # TLS can't be closed by halves; and not before the data at hand has been read
            self.loop.call_soon(self.transport.close)
        self.update()

    def _end_requests(self) -> None:
        for cycle in self.unanswered():
            cycle.disconnected = True
            cycle.message_event.set()
        self.flow.resume_writing()


class H11Connection(Connection, H11Protocol):
    """A connection on h11, which runs on every platform.

    h11 has its own limit on headers, and handles one request at a time.
    """

    def unanswered(self) -> Sequence[Cycle]:
        """Return the one request if it has no complete answer."""
        newest = self.newest()
        return [] if newest is None or newest.response_complete else [newest]

    def _parse(self, piece: memoryview) -> None:
        known = self._known()
        super()._parse(piece)
        if self._known() != known:
            self._num_pending = 0

    def _known(self) -> tuple[object, ...]:
        """Return values that change when the parser reports something new."""
        newest = self.newest()
        return () if newest is None else (id(newest), len(newest.body), newest.more_body)


try:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ImportError:  # not on Windows
    connection_class: type[Connection] = H11Connection
else:

    class HttpToolsConnection(Connection, HttpToolsProtocol):  # type: ignore[misc]
        """A connection on httptools, which may parse several requests at once."""

        def __init__(self, *args: Any, **settings: Any) -> None:
            super().__init__(*args, **settings)
            self._unanswered: deque[Any] = deque()

        def unanswered(self) -> Sequence[Any]:
            """Return the requests whose headers have been parsed and that have no complete answer."""
            return self._unanswered

        def on_headers_complete(self) -> None:
            """Note that a request begins."""
            self._num_pending = 0
            super().on_headers_complete()
            self._unanswered.append(self.cycle)
            # If the answer comes without "100 Continue", the client does not send its body, which the parser
            # would wait for. So the connection can't be used again.
            self.cycle.keep_alive &= not self.expect_100_continue

        def on_body(self, body: bytes) -> None:
            """Note that a part of a body has arrived."""
            self._num_pending = 0
            super().on_body(body)

        def on_message_complete(self) -> None:
            """Note that a request is complete."""
            self._num_pending = 0
            super().on_message_complete()

        def on_response_complete(self) -> None:
            """Note that the oldest request has been answered."""
            self._unanswered.popleft()
            super().on_response_complete()

    connection_class = HttpToolsConnection


def uvicorn_settings(
    config: ServerConfig,
    connections: Connections,
    tls: ssl.SSLContext | None = None,
    kind: type[Connection] = connection_class,
) -> dict[str, Any]:
    """Return the arguments of uvicorn.Config that limit connections, and encrypt them with `tls`."""
    plain = partial(kind, connections=connections)
    return {
        "http": plain if tls is None else partial(TLSHandshake, tls, connections, plain),
        "timeout_keep_alive": config.idle_timeout,
        # This is larger than the limit that is enforced here, so h11's own never applies.
        "h11_max_incomplete_event_size": config.max_header_bytes + _PIECE_BYTES,
    }


def _probes_only(app: ASGIApp, refusal: RequestError) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in OPEN_PATHS:
            await app(scope, receive, send)
            return
        response = error_response(refusal, {"Connection": "close"}, path=scope["path"])
        await response(scope, receive, send)

    return answer


def _in_full(error: RequestError) -> bytes:
    """Return the HTTP response of an error as bytes."""
    response = error_response(error, {"Connection": "close"})
    headers = b"".join(b"%s: %s\r\n" % header for header in response.raw_headers)
    return b"HTTP/1.1 %d \r\n%s\r\n%s" % (error.status, headers, response.body)

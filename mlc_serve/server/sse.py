"""Sends a streamed reply as server-sent events, with pings, errors after the first byte, and an end.

Knows the wire format, but not the contents of the JSON.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from anyio import CancelScope
from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import SendTimeoutError
from starlette.types import Receive, Scope, Send

from mlc_serve.errors import RequestError, RequestFailedError
from mlc_serve.server.middleware.errors import error_json
from mlc_serve.server.middleware.reply_heads import past_all_layers
from mlc_serve.server.middleware.request_id import request_id

logger = logging.getLogger(__name__)

# Proxies often cut connections that are silent for 30 or 60 seconds, and a long prefill can take longer.
PING_SECONDS = 15


def event(text: str, name: str | None = None) -> str:
    """Return an event whose data is JSON text without line breaks."""
    return f"data: {text}\n\n" if name is None else f"event: {name}\ndata: {text}\n\n"


@dataclass(frozen=True)
class EventForm:
    """What one API's streams have besides the events of a reply: pings, an event for an error, perhaps an
    end.
    """

    ping: ServerSentEvent
    error: Callable[[RequestError], str]
    end: bytes = b""


OPENAI_EVENTS = EventForm(
    ping=ServerSentEvent(comment="ping", sep="\n"),
    error=lambda error: event(error_json(error)),
    end=b"data: [DONE]\n\n",
)


class EventStream(EventSourceResponse):
    """A response that sends the events `first` and `rest`, then `last`. The caller closes `rest` afterwards.

    It ends early if the client disconnects or reads nothing for `send_timeout` seconds.
    """

    def __init__(
        self,
        first: bytes,
        rest: AsyncIterator[bytes],
        *,
        send_timeout: float,
        ping_seconds: float = PING_SECONDS,
        form: EventForm = OPENAI_EVENTS,
    ) -> None:
        super().__init__(
            _whole(first, rest, form),
            sep="\n",
            ping=ping_seconds,
            ping_message_factory=lambda: form.ping,
            send_timeout=send_timeout,
        )
        self._patience = send_timeout
        self._waiting_since: float | None = None  # while something is being sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all events."""
        self._send_body = past_all_layers(scope, send)
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            logger.info("a stream was not read for %g s, id=%s", self._patience, request_id.get())

    async def _stream_response(self, send: Send) -> None:
        """Send the events as the base class does, but without its cancel scope and timer for each event,
        which cost as much as the event itself.
        """
        clock, send_body = asyncio.get_running_loop().time, self._send_body
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        with CancelScope() as streaming, self._watching_sends(streaming):
            async for events in self.body_iterator:
                self._waiting_since = clock()
                await send_body({"type": "http.response.body", "body": events, "more_body": True})
                self._waiting_since = None
        if streaming.cancel_called:
            raise SendTimeoutError
        async with self._send_lock:
            self.active = False
            await send({"type": "http.response.body", "body": b""})

    @contextmanager
    def _watching_sends(self, streaming: CancelScope) -> Iterator[None]:
        """Cancel `streaming` if sending an event takes too long. Uses one timer for all events."""
        loop = asyncio.get_running_loop()
        timer: asyncio.TimerHandle

        def look() -> None:
            nonlocal timer
            since = loop.time() if self._waiting_since is None else self._waiting_since
            left = since + self._patience - loop.time()
            if left > 0:
                timer = loop.call_later(left, look)
            else:
                streaming.cancel()

        timer = loop.call_later(self._patience, look)
        try:
            yield
        finally:
            timer.cancel()


async def _whole(first: bytes, rest: AsyncIterator[bytes], form: EventForm) -> AsyncIterator[bytes]:
    """Yield all events and the end. The status line has been sent, so an error can only be another event."""
    yield first
    try:
        async for events in rest:
            yield events
    except RequestError as error:
        yield form.error(error).encode()
    except Exception:  # whatever failed, the client gets an error, and other streams go on
        logger.exception("a stream failed, id=%s", request_id.get())
        failure = RequestFailedError("The server failed while it wrote this reply.")
        yield form.error(failure).encode()
    if form.end:
        yield form.end

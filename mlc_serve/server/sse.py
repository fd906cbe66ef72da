"""A streamed reply as server-sent events: data lines, pings, errors after the first byte, [DONE].

Knows the wire form, not what the JSON says.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mlc_serve.errors import RequestError, RequestFailedError
from mlc_serve.server.disconnect import unless_disconnected
from mlc_serve.server.errors import error_json
from mlc_serve.server.middleware.request_id import request_id

logger = logging.getLogger(__name__)

# Proxies commonly cut connections on which nothing passes for 30 or 60 seconds; a long prefill is as silent.
PING_SECONDS = 15
PING = b": ping\n\n"
DONE = b"data: [DONE]\n\n"
# Caches keep nothing of it, and nginx holds nothing back.
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class EventStream(Response):
    """The response that sends `first`, then `rest`, which are JSON. The caller closes `rest` afterwards.

    It ends early when the client goes.
    """

    media_type = "text/event-stream"

    def __init__(self, first: str, rest: AsyncIterator[str], *, ping_seconds: float = PING_SECONDS) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers(_HEADERS)
        self._first = first
        self._rest = rest
        self._ping_seconds = ping_seconds

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything."""
        try:
            await unless_disconnected(receive, self._send_all(send))
        except ClientDisconnect:
            logger.debug("the client has gone, id=%s", request_id.get())

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        pings = asyncio.ensure_future(self._ping(send))
        try:
            async with aclosing(_events(self._first, self._rest)) as events:
                async for event in events:
                    await send({"type": "http.response.body", "body": event, "more_body": True})
        finally:
            pings.cancel()
        await send({"type": "http.response.body", "body": DONE})

    async def _ping(self, send: Send) -> None:
        while True:
            await asyncio.sleep(self._ping_seconds)
            await send({"type": "http.response.body", "body": PING, "more_body": True})


async def _events(first: str, rest: AsyncIterator[str]) -> AsyncGenerator[bytes, None]:
    """Events until the stream ends. The status line is out: an error can only be one more event."""
    yield _data(first)
    try:
        async for text in rest:
            yield _data(text)
    except RequestError as error:
        yield _data(error_json(error))
    except Exception:  # an edge: whatever broke, the client is told, and the other streams go on
        logger.exception("a stream failed, id=%s", request_id.get())
        yield _data(error_json(RequestFailedError("The server failed while it wrote this reply.")))


def _data(text: str) -> bytes:
    return b"data: %s\n\n" % text.encode()

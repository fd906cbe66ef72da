"""A streamed reply as server-sent events: data lines, pings, errors after the first byte, [DONE].

Knows the wire form, not what the JSON says.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator

from sse_starlette import EventSourceResponse, ServerSentEvent

from mlc_serve.errors import RequestError, RequestFailedError
from mlc_serve.server.errors import error_json
from mlc_serve.server.request_id import request_id

logger = logging.getLogger(__name__)

# Proxies commonly cut connections on which nothing passes for 30 or 60 seconds; a long prefill is as silent.
PING_SECONDS = 15
DONE = b"data: [DONE]\n\n"


def event_stream(first: str, rest: AsyncIterator[str]) -> EventSourceResponse:
    """The response that sends `first`, then `rest`, which are JSON. The caller closes `rest` afterwards."""
    return EventSourceResponse(_events(first, rest), ping=PING_SECONDS, ping_message_factory=_ping, sep="\n")


def _ping() -> ServerSentEvent:
    return ServerSentEvent(comment="ping", sep="\n")


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
    yield DONE


def _data(text: str) -> bytes:
    return b"data: %s\n\n" % text.encode()

"""Answers requests that an engine's endpoint takes, whichever API they belong to.

Reads a request, and sends the whole reply or the stream that the endpoint returns, in the API's own form.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import AsyncExitStack, aclosing
from typing import Annotated, Any, Protocol

from fastapi import Depends, Request
from fastapi.responses import Response, StreamingResponse

from mlc_serve.api.endpoint import Asked
from mlc_serve.protocol.replies import Without
from mlc_serve.protocol.reply_stream import ReplyStream
from mlc_serve.protocol.whole_reply import WholeReply
from mlc_serve.server.disconnect import unless_disconnected
from mlc_serve.server.middleware.auth import key_name
from mlc_serve.server.middleware.request_id import reply_id
from mlc_serve.server.middleware.request_log import record_of
from mlc_serve.server.serving import serving_of
from mlc_serve.server.sse import EventForm, EventStream
from mlc_serve.server.turns import in_turns


class ReplyForm(Protocol):
    """How one API writes a reply. Notes in the request's record what the log says about it."""

    @property
    def event_form(self) -> EventForm:
        """What a stream has besides the events of its reply."""

    @property
    def hidden(self) -> Without | None:
        """The fields of a whole reply that clients are not shown."""

    def note(self, whole: Any) -> None:
        """Note what is in a whole reply."""

    def events(self, reply: ReplyStream[Any]) -> AsyncGenerator[bytes, None]:
        """Yield a streamed reply as events; those that arrive together are sent together."""


async def _until_sent() -> AsyncIterator[AsyncExitStack]:
    """Yield a stack that is closed after the response has been sent or sending it has failed."""
    async with AsyncExitStack() as stack:
        yield stack


UntilSent = Annotated[AsyncExitStack, Depends(_until_sent)]


async def answer(request: Request, until_sent: AsyncExitStack, body: Asked, form: ReplyForm) -> Response:
    """Answer a request. Each step refuses what it can before the next one does any work."""
    serving, record = serving_of(request), record_of(request)
    served = serving.context.get_for(type(body), body.model)
    endpoint = served.endpoint(type(body))
    record.model, record.reply_id = served.name, reply_id(endpoint.prefix)
    until_sent.enter_context(endpoint.reserve(body))
    work = endpoint.respond(body, record.reply_id, key_name(request))
    answering = _first_answer(request, work, until_sent, form)
    return await unless_disconnected(request.receive, answering)


async def _first_answer(
    request: Request,
    work: Awaitable[WholeReply[Any] | ReplyStream[Any]],
    until_sent: AsyncExitStack,
    form: ReplyForm,
) -> Response:
    """Return the whole reply, or a stream once its first chunk is ready. Until then a failure can still set
    the status.
    """
    reply = await work
    if isinstance(reply, WholeReply):
        form.note(reply.outline)
        return _whole(reply, form.hidden)
    events = await until_sent.enter_async_context(aclosing(form.events(reply)))
    first = await anext(events)
    record_of(request).saw_first_chunk()
    send_timeout = serving_of(request).config.send_timeout
    return EventStream(first, events, send_timeout=send_timeout, form=form.event_form)


def _whole(reply: WholeReply[Any], hidden: Without | None) -> Response:
    """Return a whole reply without `hidden` fields. With logprobs it is sent in many pieces, so that others
    get their turns.
    """
    if not reply.has_logprobs:
        return Response("".join(reply.json(hidden)), media_type="application/json")
    return StreamingResponse(in_turns(reply.json(hidden)), media_type="application/json")

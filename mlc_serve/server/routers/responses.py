"""OpenAI's Responses API: /v1/responses.

Reads a request, and sends the whole response or the events that api.responses makes.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response as HttpResponse
from fastapi.responses import StreamingResponse

from mlc_serve.api.responses import ResponseEvents, new_response_id
from mlc_serve.errors import InvalidRequestError, UnsupportedFieldError
from mlc_serve.protocol.openai import ChatCompletionRequest
from mlc_serve.protocol.responses.events import Event, ProgressEvent
from mlc_serve.protocol.responses.items import StoredItem
from mlc_serve.protocol.responses.replies import DeletedResponse, ItemPage, Response
from mlc_serve.protocol.responses.request import ResponseRequest
from mlc_serve.protocol.responses.whole_response import WholeResponse
from mlc_serve.server.answering import UntilSent
from mlc_serve.server.disconnect import unless_disconnected
from mlc_serve.server.documentation import NAMED_EVENTS, refuses_with, takes
from mlc_serve.server.event_forms import RESPONSE_EVENTS
from mlc_serve.server.middleware.auth import key_name
from mlc_serve.server.middleware.request_log import RequestRecord, record_of
from mlc_serve.server.serving import serving_of
from mlc_serve.server.sse import EventStream, event
from mlc_serve.server.turns import in_turns

router = APIRouter(prefix="/v1/responses", tags=["responses"])

_JSON = "application/json"
# How many items a page has, unless the client says so, and at most.
_PAGE, _LONGEST_PAGE = 20, 100


@router.post(
    "",
    openapi_extra=takes(ResponseRequest),
    responses={
        200: {"model": Response, "content": {"text/event-stream": NAMED_EVENTS}},
        **refuses_with(404, 429, 504),
    },
)
async def create_response(request: Request, until_sent: UntilSent) -> HttpResponse:
    """Answer a conversation. Each step refuses what it can before the next one does any work."""
    serving, record = serving_of(request), record_of(request)
    record.operation = "chat"
    serving.context.require_room()
    body = await serving.bodies.read(request, ResponseRequest)
    served = serving.context.get_for(ChatCompletionRequest, body.model)
    chat = served.endpoint(ChatCompletionRequest)
    record.model, record.reply_id = served.name, new_response_id()
    until_sent.enter_context(chat.reserve(body))
    work = serving.responses.respond(body, chat, served.name, record.reply_id, key_name(request))
    answer = _first_answer(work, record, until_sent, serving.config.send_timeout)
    return await unless_disconnected(request.receive, answer)


@router.get("/{response_id}", responses={200: {"model": Response}, **refuses_with(404)})
async def retrieve_response(request: Request, response_id: str, stream: str = "false") -> HttpResponse:
    """Return a stored response."""
    if stream not in ("false", ""):
        raise UnsupportedFieldError("stream: a stored response can't be streamed again.", "stream")
    text = serving_of(request).responses.response(response_id, key_name(request))
    return HttpResponse(text, media_type=_JSON)


@router.delete("/{response_id}", responses={200: {"model": DeletedResponse}, **refuses_with(404)})
async def delete_response(request: Request, response_id: str) -> HttpResponse:
    """Delete a stored response."""
    serving_of(request).responses.delete(response_id, key_name(request))
    deleted = DeletedResponse(id=response_id, object="response", deleted=True)
    return HttpResponse(deleted.to_json(), media_type=_JSON)


@router.get("/{response_id}/input_items", responses={200: {"model": ItemPage}, **refuses_with(404)})
async def list_input_items(
    request: Request, response_id: str, limit: str = str(_PAGE), order: str = "desc", after: str = ""
) -> HttpResponse:
    """Return the items that were sent for a stored response, a page at a time."""
    items = serving_of(request).responses.input_items(response_id, key_name(request))
    rest = _after(_ordered(items, order), after)
    num_shown = _page_length(limit)
    return HttpResponse(_page(rest[:num_shown], has_more=len(rest) > num_shown), media_type=_JSON)


@router.post("/{response_id}/cancel", responses=refuses_with(404))
async def cancel_response(request: Request, response_id: str) -> HttpResponse:  # noqa: ARG001 - in the path
    """Refuse, since no response is made in the background."""
    raise UnsupportedFieldError(
        "Only background responses can be cancelled, and there are none; to end a response, close the "
        "connection on which it is sent."
    )


async def _first_answer(
    work: Awaitable[WholeResponse | ResponseEvents],
    record: RequestRecord,
    until_sent: AsyncExitStack,
    send_timeout: float,
) -> HttpResponse:
    """Return the whole response, or a stream once its first events are ready. Until then a failure can still
    set the status.
    """
    reply = await work
    if isinstance(reply, WholeResponse):
        record.saw_response(reply.progress)
        return _whole(reply)
    events = await until_sent.enter_async_context(aclosing(_written(reply, record)))
    first = await anext(events)
    record.saw_first_chunk()
    return EventStream(first, events, send_timeout=send_timeout, form=RESPONSE_EVENTS)


def _whole(reply: WholeResponse) -> HttpResponse:
    """Return a whole response. With logprobs it is sent in many pieces, so that others get their turns."""
    if reply.logprobs is None:
        return HttpResponse(reply.outline, media_type=_JSON)
    return StreamingResponse(in_turns(reply.json()), media_type=_JSON)


async def _written(reply: ResponseEvents, record: RequestRecord) -> AsyncGenerator[bytes, None]:
    """Yield events as they are sent; those that arrive together are sent together."""
    with record.of_stream():
        async with aclosing(reply) as batches:
            async for batch in batches:
                if batch:
                    yield "".join([_event_text(part, record) for part in batch]).encode()


def _event_text(part: Event, record: RequestRecord) -> str:
    if isinstance(part, ProgressEvent):
        record.saw_response(part.progress)
    return event(part.to_json(), part.type)


def _ordered(items: Sequence[StoredItem], order: str) -> Sequence[StoredItem]:
    if order not in ("asc", "desc"):
        raise InvalidRequestError("order: must be 'asc' or 'desc'.", "order")
    return items if order == "asc" else items[::-1]


def _after(items: Sequence[StoredItem], item_id: str) -> Sequence[StoredItem]:
    """Return the items behind the one with an id; all of them if the id is empty."""
    if not item_id:
        return items
    position = next((number for number, item in enumerate(items, 1) if item.id == item_id), None)
    if position is None:
        raise InvalidRequestError("after: is not the id of one of the items.", "after")
    return items[position:]


def _page_length(limit: str) -> int:
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= _LONGEST_PAGE):
        raise InvalidRequestError(f"limit: must be an integer from 1 to {_LONGEST_PAGE}.", "limit")
    return int(limit)


def _page(items: Sequence[StoredItem], *, has_more: bool) -> bytes:
    """Return the JSON of an ItemPage. The items are JSON already."""
    ids: dict[str, Any] = {
        "first_id": items[0].id if items else None,
        "last_id": items[-1].id if items else None,
        "has_more": has_more,
    }
    data = b",".join(item.text for item in items)
    return b'{"object":"list","data":[' + data + b"]," + json.dumps(ids)[1:].encode()

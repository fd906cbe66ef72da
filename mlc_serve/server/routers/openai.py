"""OpenAI's API: /v1/models, /v1/completions, /v1/chat/completions.

Reads a request, and sends the whole reply or the stream that the engine's endpoint returns.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import AsyncExitStack, aclosing
from functools import cache, partial
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response, StreamingResponse

from mlc_serve.errors import RequestError
from mlc_serve.protocol.debug import check_debug_allowed
from mlc_serve.protocol.openai import (
    ChatCompletionRequest,
    CompletionRequest,
    GenerationRequest,
    StreamOptions,
)
from mlc_serve.protocol.replies import ChatCompletion, ChatCompletionChunk, Completion, Reply
from mlc_serve.protocol.reply_stream import Chunk, ReplyStream, TextPart
from mlc_serve.protocol.text_frame import TextFrame
from mlc_serve.protocol.whole_reply import WholeReply
from mlc_serve.server.context import ServerContext
from mlc_serve.server.disconnect import unless_disconnected
from mlc_serve.server.documentation import refuses_with, takes
from mlc_serve.server.middleware.auth import key_name
from mlc_serve.server.middleware.request_id import reply_id
from mlc_serve.server.middleware.request_log import RequestRecord, record_of
from mlc_serve.server.served import Served
from mlc_serve.server.serving import serving_of
from mlc_serve.server.sse import EventStream, event
from mlc_serve.server.turns import in_turns

Work = Awaitable[WholeReply[ChatCompletion | Completion] | ReplyStream[Chunk]]
Body = TypeVar("Body", bound=GenerationRequest)


async def _until_sent() -> AsyncIterator[AsyncExitStack]:
    """Yield a stack that is closed after the response has been sent or sending it has failed."""
    async with AsyncExitStack() as stack:
        yield stack


UntilSent = Annotated[AsyncExitStack, Depends(_until_sent)]


def _generates(whole: type[Reply], chunk: type[Reply]) -> dict[int | str, dict[str, Any]]:
    """Return FastAPI's `responses` for an operation that generates text."""
    stream = {
        "schema": {"type": "string", "description": f"Events whose data is a {chunk.__name__}, or [DONE]."}
    }
    return {200: {"model": whole, "content": {"text/event-stream": stream}}, **refuses_with(404, 429)}


router = APIRouter(prefix="/v1", tags=["openai"])


@router.get("/models")
async def list_models(request: Request) -> dict[str, Any]:
    """List the models that are served."""
    context = serving_of(request).context
    return {"object": "list", "data": [_model_card(context, served) for served in context.all_served]}


@router.get("/models/{model:path}", responses=refuses_with(404))
async def retrieve_model(request: Request, model: str) -> dict[str, Any]:
    """Return one of the models that are served."""
    context = serving_of(request).context
    return _model_card(context, context.get_by_path(model))


@router.post(
    "/completions", openapi_extra=takes(CompletionRequest), responses=_generates(Completion, Completion)
)
async def create_completion(request: Request, until_sent: UntilSent) -> Response:
    """Complete one or several prompts."""
    return await _generate(request, until_sent, CompletionRequest)


@router.post(
    "/chat/completions",
    openapi_extra=takes(ChatCompletionRequest),
    responses=_generates(ChatCompletion, ChatCompletionChunk),
)
async def create_chat(request: Request, until_sent: UntilSent) -> Response:
    """Continue a conversation."""
    return await _generate(request, until_sent, ChatCompletionRequest)


async def _generate(request: Request, until_sent: AsyncExitStack, kind: type[Body]) -> Response:
    """Answer a request. Each step refuses what it can before the next one does any work."""
    serving, record = serving_of(request), record_of(request)
    serving.context.require_room()
    body = await serving.bodies.read(request, kind)
    check_debug_allowed(body.debug_config, serving.config.enable_debug)
    served = serving.context.get_for(kind, body.model)
    endpoint = served.endpoint(kind)
    record.model, record.reply_id = served.name, reply_id(endpoint.prefix)
    until_sent.enter_context(endpoint.reserve(body))
    work = endpoint.respond(_counted(body), record.reply_id, key_name(request))
    answer = _first_answer(work, record, until_sent, body.wants_usage, serving.config.send_timeout)
    return await unless_disconnected(request.receive, answer)


async def _first_answer(
    work: Work, record: RequestRecord, until_sent: AsyncExitStack, shows_usage: bool, send_timeout: float
) -> Response:
    """Return the whole reply, or a stream once its first chunk is ready. Until then a failure can still set
    the status.
    """
    reply = await work
    if isinstance(reply, WholeReply):
        record.saw(reply.outline)
        return _whole(reply)
    events = await until_sent.enter_async_context(aclosing(_events(reply, record, shows_usage)))
    first = await anext(events)
    record.saw_first_chunk()
    return EventStream(first, events, send_timeout=send_timeout)


def _whole(reply: WholeReply[ChatCompletion | Completion]) -> Response:
    """Return a whole reply. With logprobs it is sent in many pieces, so that others get their turns."""
    if not reply.logprobs:
        return Response("".join(reply.json()), media_type="application/json")
    return StreamingResponse(in_turns(reply.json()), media_type="application/json")


async def _events(
    reply: ReplyStream[Chunk], record: RequestRecord, shows_usage: bool
) -> AsyncGenerator[bytes, None]:
    """Yield chunks as events; those that arrive together are sent together.

    The log records the usage of every stream, but the client sees it only if it asked for it.
    """
    hidden = set() if shows_usage else {"usage"}
    frame_of = cache(partial(_frame, reply, hidden))

    def event_of(part: Chunk | TextPart) -> str:
        if isinstance(part, TextPart):
            return frame_of(part.choice).around(part.text)
        record.saw(part)
        return event(part.to_json(hidden)) if shows_usage or part.choices else ""

    record.finish = "disconnected"  # a chunk or an error replaces this
    try:
        async with aclosing(reply.parts) as batches:
            async for batch in batches:
                if events := "".join(map(event_of, batch)):
                    yield events.encode()
    except RequestError as error:
        record.finish = error.code
        raise


def _frame(reply: ReplyStream[Chunk], hidden: set[str], choice: int) -> TextFrame:
    return TextFrame(lambda text: event(reply.chunk_of(TextPart(choice, text)).to_json(hidden)))


def _counted(body: Body) -> Body:
    """Return the request; if it is streamed, usage is always reported."""
    if not body.stream or body.wants_usage:
        return body
    counted: Body = body.model_copy(update={"stream_options": StreamOptions(include_usage=True)})
    return counted


def _model_card(context: ServerContext, served: Served) -> dict[str, Any]:
    """Return a model's entry. `max_model_len` counts the tokens of prompt and output together, or of one
    input of an embedding model.
    """
    return {
        "id": served.name,
        "object": "model",
        "created": context.created,
        "owned_by": "MLC-LLM",
        "max_model_len": served.context_length,
    }

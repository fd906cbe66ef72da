"""OpenAI's API: /v1/models, /v1/completions, /v1/chat/completions.

Reads a request, and writes the reply that the engine's endpoint returns.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any, ClassVar, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import Response

from mlc_serve.protocol.debug import check_debug_allowed
from mlc_serve.protocol.openai import (
    ChatCompletionRequest,
    CompletionRequest,
    GenerationRequest,
    StreamOptions,
)
from mlc_serve.protocol.replies import (
    ChatCompletion,
    ChatCompletionChunk,
    Completion,
    Reply,
    Without,
)
from mlc_serve.protocol.reply_stream import Chunk, ReplyStream, TextPart
from mlc_serve.protocol.text_frame import TextFrame
from mlc_serve.server.answering import UntilSent, answer
from mlc_serve.server.context import ServerContext
from mlc_serve.server.documentation import refuses_with, takes
from mlc_serve.server.middleware.request_log import RequestRecord, record_of
from mlc_serve.server.serving import serving_of
from mlc_serve.server.sse import OPENAI_EVENTS, event

Body = TypeVar("Body", bound=GenerationRequest)


def generates(whole: type[Reply], chunk: type[Reply]) -> dict[int | str, dict[str, Any]]:
    """Return FastAPI's `responses` for an operation that generates text."""
    stream = {
        "schema": {"type": "string", "description": f"Events whose data is a {chunk.__name__}, or [DONE]."}
    }
    return {200: {"model": whole, "content": {"text/event-stream": stream}}, **refuses_with(404, 429, 504)}


router = APIRouter(prefix="/v1", tags=["openai"])


@router.get("/models")
async def list_models(request: Request) -> dict[str, Any]:
    """List the names and aliases under which models are served."""
    context = serving_of(request).context
    cards = [_model_card(context, name) for name in context.names]
    # Anthropic's clients read the further fields.
    edges = {"first_id": cards[0]["id"], "last_id": cards[-1]["id"]} if cards else {}
    return {"object": "list", "data": cards, "has_more": False, "first_id": None, "last_id": None, **edges}


@router.get("/models/{model:path}", responses=refuses_with(404))
async def retrieve_model(request: Request, model: str) -> dict[str, Any]:
    """Return one of the models that are served."""
    context = serving_of(request).context
    return _model_card(context, context.name_in_path(model))


@router.post(
    "/completions", openapi_extra=takes(CompletionRequest), responses=generates(Completion, Completion)
)
async def create_completion(request: Request, until_sent: UntilSent) -> Response:
    """Complete one or several prompts."""
    return await generate(request, until_sent, CompletionRequest)


@router.post(
    "/chat/completions",
    openapi_extra=takes(ChatCompletionRequest),
    responses=generates(ChatCompletion, ChatCompletionChunk),
)
async def create_chat(request: Request, until_sent: UntilSent) -> Response:
    """Continue a conversation."""
    return await generate(request, until_sent, ChatCompletionRequest)


async def generate(request: Request, until_sent: AsyncExitStack, kind: type[Body]) -> Response:
    """Answer a request. Each step refuses what it can before the next one does any work."""
    serving, record = serving_of(request), record_of(request)
    record.operation = "text_completion" if issubclass(kind, CompletionRequest) else "chat"
    serving.context.require_room()
    body = await serving.bodies.read(request, kind)
    check_debug_allowed(body.debug_config, serving.config.enable_debug)
    hidden = None if serving.config.enable_debug else {"usage": {"extra"}}
    form = _OpenAIForm(record_of(request), body.wants_usage, hidden)
    return await answer(request, until_sent, _counted(body), form)


@dataclass(frozen=True)
class _OpenAIForm:
    """Writes OpenAI's replies. Implements answering.ReplyForm."""

    record: RequestRecord
    shows_usage: bool
    hidden: Without | None
    event_form: ClassVar = OPENAI_EVENTS

    def note(self, whole: ChatCompletion | Completion) -> None:
        """See ReplyForm."""
        self.record.saw(whole)

    def events(self, reply: ReplyStream[Chunk]) -> AsyncGenerator[bytes, None]:
        """See ReplyForm."""
        return _events(reply, self)


async def _events(reply: ReplyStream[Chunk], form: _OpenAIForm) -> AsyncGenerator[bytes, None]:
    """Yield chunks as events; those that arrive together are sent together.

    The log records the usage of every stream, but the client sees it only if it asked for it.
    """
    hidden = form.hidden if form.shows_usage else {"usage": True}
    frame_of = cache(partial(_frame, reply, hidden))

    def event_of(part: Chunk | TextPart) -> str:
        if isinstance(part, TextPart):
            return frame_of(part.choice).around(part.text)
        form.record.saw(part)
        return event(part.to_json(hidden)) if form.shows_usage or part.choices else ""

    with form.record.of_stream():
        async with aclosing(reply.parts) as batches:
            async for batch in batches:
                if events := "".join(map(event_of, batch)):
                    yield events.encode()


def _frame(reply: ReplyStream[Chunk], hidden: Without | None, choice: int) -> TextFrame:
    return TextFrame(lambda text: event(reply.chunk_of(TextPart(choice, text)).to_json(hidden)))


def _counted(body: Body) -> Body:
    """Return the request; if it is streamed, usage is always reported."""
    if not body.stream or body.wants_usage:
        return body
    counted: Body = body.model_copy(update={"stream_options": StreamOptions(include_usage=True)})
    return counted


def _model_card(context: ServerContext, name: str) -> dict[str, Any]:
    """Return the entry of a name or an alias, with OpenAI's fields and then Anthropic's.

    Raises ModelNotFoundError. `root` is the model's name, and `max_model_len` counts the tokens of prompt
    and output together, or of one input of an embedding model.
    """
    served = context.get(name)
    return {
        "id": name,
        "root": served.name,
        "object": "model",
        "created": context.created,
        "owned_by": "MLC-LLM",
        "max_model_len": served.context_length,
        "type": "model",
        "display_name": served.name,
        "created_at": datetime.fromtimestamp(context.created, UTC).isoformat(),
        "lifecycle": "active",
        "max_input_tokens": served.context_length,
        "max_tokens": served.context_length,
    }

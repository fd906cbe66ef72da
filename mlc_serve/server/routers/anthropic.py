"""Anthropic's API: /v1/messages, /v1/messages/count_tokens. Its /v1/models is that of OpenAI's API.

The headers `anthropic-version` and `anthropic-beta` make no difference.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

from fastapi import APIRouter, Request
from fastapi.responses import Response

from mlc_serve.protocol.anthropic.errors import AnthropicErrorReply
from mlc_serve.protocol.anthropic.reply import (
    MessageDelta,
    MessageEvent,
    MessageReply,
    MessageUsage,
    TokenCount,
)
from mlc_serve.protocol.anthropic.request import CountTokensRequest, MessagesRequest
from mlc_serve.protocol.reply_stream import ReplyStream, TextPart
from mlc_serve.protocol.text_frame import TextFrame
from mlc_serve.server.answering import UntilSent, answer
from mlc_serve.server.documentation import ANYWHERE, NAMED_EVENTS, refuses_with, takes
from mlc_serve.server.event_forms import MESSAGE_EVENTS
from mlc_serve.server.middleware.request_log import RequestRecord, record_of
from mlc_serve.server.serving import serving_of
from mlc_serve.server.sse import event

_REPLIES: dict[int | str, dict[str, Any]] = {
    200: {"model": MessageReply, "content": {"text/event-stream": NAMED_EVENTS}}
}

router = APIRouter(
    prefix="/v1",
    tags=["anthropic"],
    responses=refuses_with(*ANYWHERE, 404, 429, 504, model=AnthropicErrorReply),
)


@router.post("/messages", openapi_extra=takes(MessagesRequest), responses=_REPLIES)
async def create_message(request: Request, until_sent: UntilSent) -> Response:
    """Continue a conversation."""
    serving = serving_of(request)
    record_of(request).operation = "chat"
    serving.context.require_room()
    body = await serving.bodies.read(request, MessagesRequest)
    return await answer(request, until_sent, body, _MessageForm(record_of(request)))


@router.post(
    "/messages/count_tokens", openapi_extra=takes(CountTokensRequest), responses={200: {"model": TokenCount}}
)
async def count_tokens(request: Request, until_sent: UntilSent) -> Response:
    """Return the number of tokens of a conversation's prompt."""
    serving = serving_of(request)
    serving.context.require_room()
    body = await serving.bodies.read(request, CountTokensRequest)
    return await answer(request, until_sent, body, _MessageForm(record_of(request)))


@dataclass(frozen=True)
class _MessageForm:
    """Writes Anthropic's replies. Implements answering.ReplyForm."""

    record: RequestRecord
    event_form: ClassVar = MESSAGE_EVENTS
    hidden: ClassVar = None

    def note(self, whole: MessageReply | TokenCount) -> None:
        """See ReplyForm."""
        if isinstance(whole, TokenCount):
            self.record.prompt_tokens = whole.input_tokens
        else:
            self._note_end(whole.usage, whole.stop_reason)

    async def events(self, reply: ReplyStream[MessageEvent]) -> AsyncGenerator[bytes, None]:
        """See ReplyForm."""

        @cache
        def frame_of(block: int) -> TextFrame:
            return TextFrame(lambda text: _event(reply.chunk_of(TextPart(block, text))))

        def event_of(part: MessageEvent | TextPart) -> str:
            if isinstance(part, TextPart):
                return frame_of(part.choice).around(part.text)
            if isinstance(part, MessageDelta):
                self._note_end(part.usage, part.delta.stop_reason)
            return _event(part)

        with self.record.of_stream():
            async with aclosing(reply.parts) as batches:
                async for batch in batches:
                    if events := "".join(map(event_of, batch)):
                        yield events.encode()

    def _note_end(self, usage: MessageUsage, stop_reason: str | None) -> None:
        self.record.prompt_tokens = usage.input_tokens + usage.cache_read_input_tokens
        self.record.completion_tokens = usage.output_tokens
        self.record.finish = stop_reason


def _event(part: MessageEvent) -> str:
    return event(part.to_json(), part.type)

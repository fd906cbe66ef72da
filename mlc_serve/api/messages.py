"""Answers requests of Anthropic's API by means of chat completions. Runs on the event loop."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial

from mlc_serve.api.chat_completions import ChatCompletions
from mlc_serve.api.long_texts import LongTexts, is_long
from mlc_serve.frontend.anthropic.chat_request import anthropics_names, chat_request, counted_request
from mlc_serve.frontend.anthropic.message import message_reply
from mlc_serve.frontend.anthropic.message_events import EventPart, MessageEvents, text_event
from mlc_serve.protocol.anthropic.reply import MessageEvent, MessageReply, TokenCount
from mlc_serve.protocol.anthropic.request import (
    CountTokensRequest,
    MessagesPrompt,
    MessagesRequest,
)
from mlc_serve.protocol.openai import ChatCompletionRequest
from mlc_serve.protocol.replies import ChatCompletionChunk
from mlc_serve.protocol.reply_stream import ReplyStream
from mlc_serve.protocol.whole_reply import WholeReply


class Messages:
    """Answers requests for messages to the model of this name. Implements api.endpoint.Responder."""

    def __init__(self, model: str, chat: ChatCompletions, long_texts: LongTexts) -> None:
        self._model = model
        self._chat = chat
        self._long_texts = long_texts

    async def respond(
        self, request: MessagesRequest, request_id: str, owner: str
    ) -> WholeReply[MessageReply] | ReplyStream[MessageEvent]:
        """See Endpoint.respond."""
        with anthropics_names():
            asked = await _translated(partial(chat_request, request), request, self._long_texts)
            reply = await self._chat.respond(asked, request_id, owner)
        if isinstance(reply, WholeReply):
            return WholeReply(message_reply(reply.outline, request))
        events = MessageEvents(request, request_id, request.model or self._model)
        return ReplyStream(_parts(reply, events), text_event, reply.usage)


class MessageTokens:
    """Counts the tokens of requests' prompts. Implements api.endpoint.Responder."""

    def __init__(self, chat: ChatCompletions, long_texts: LongTexts) -> None:
        self._chat = chat
        self._long_texts = long_texts

    async def respond(
        self,
        request: CountTokensRequest,
        request_id: str,  # noqa: ARG002 - the protocol has it
        owner: str,  # noqa: ARG002 - the protocol has it
    ) -> WholeReply[TokenCount]:
        """See Endpoint.respond."""
        with anthropics_names():
            asked = await _translated(partial(counted_request, request), request, self._long_texts)
            return WholeReply(TokenCount(input_tokens=len(await self._chat.prompt_ids(asked))))


async def _translated(
    translate: Callable[[], ChatCompletionRequest], request: MessagesPrompt, long_texts: LongTexts
) -> ChatCompletionRequest:
    """Return a request's translation, which is made on another thread if the request is long."""
    schemas = (request.tools, request.output_config, request.output_format)
    if is_long(request.messages, request.system, schemas):
        return await long_texts.read(translate)
    return translate()


async def _parts(
    reply: ReplyStream[ChatCompletionChunk], events: MessageEvents
) -> AsyncGenerator[list[EventPart], None]:
    """Yield the events of a streamed reply. It begins when the prompt's cached tokens are known."""
    async with aclosing(reply.parts) as batches:
        first = await anext(batches)
        yield [*events.start(reply.usage()), *(event for part in first for event in events.push(part))]
        async for batch in batches:
            yield [event for part in batch for event in events.push(part)]
    yield list(events.finish(reply.usage()))

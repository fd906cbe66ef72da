"""Turns the chunks of a chat completion into the events of Anthropic's streams."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from mlc_serve.frontend.anthropic.message import (
    message_end,
    message_usage,
    shows_thinking,
    tool_use_id,
)
from mlc_serve.protocol.anthropic.reply import (
    BlockDelta,
    Content,
    ContentBlockDelta,
    ContentBlockStart,
    ContentBlockStop,
    InputJsonDelta,
    MessageDelta,
    MessageEvent,
    MessageReply,
    MessageStart,
    MessageStop,
    Ping,
    SignatureDelta,
    TextContent,
    TextDelta,
    ThinkingContent,
    ThinkingDelta,
    ToolUseContent,
)
from mlc_serve.protocol.anthropic.request import MessagesRequest
from mlc_serve.protocol.replies import ChatCompletionChunk, ChatDelta, ChoiceEnd, ToolCallDelta, Usage
from mlc_serve.protocol.reply_stream import TextPart

EventPart = MessageEvent | TextPart


class _Kind(Enum):
    """The kinds of blocks."""

    THINKING = "thinking"
    TEXT = "text"
    TOOL_USE = "tool_use"


@dataclass(frozen=True)
class _OpenBlock:
    kind: _Kind
    index: int


class MessageEvents:
    """The events of one reply. Text that is added to an open block is a TextPart with the block's index.

    White space around calls is not a block of its own, as in whole replies: it is held back until text
    follows it.
    """

    def __init__(self, request: MessagesRequest, reply_id: str, model: str) -> None:
        self._request = request
        self._reply_id = reply_id
        self._model = model
        self._shows_thinking = shows_thinking(request)
        self._open: _OpenBlock | None = None
        self._num_blocks = 0
        self._held = ""
        self._has_called = False
        self._finish_reason: ChoiceEnd | None = None
        self._stop_string: str | None = None

    def start(self, usage: Usage) -> Iterator[EventPart]:
        """Yield the first events."""
        message = MessageReply(
            id=self._reply_id,
            type="message",
            role="assistant",
            model=self._model,
            content=[],
            stop_reason=None,
            stop_sequence=None,
            usage=message_usage(usage),
        )
        yield MessageStart(type="message_start", message=message)
        yield Ping(type="ping")

    def push(self, part: ChatCompletionChunk | TextPart) -> Iterable[EventPart]:
        """Return the events for one part of the completion."""
        return self._text(part.text) if isinstance(part, TextPart) else self._chunk(part)

    def finish(self, usage: Usage) -> Iterator[EventPart]:
        """Yield the last events. Raises RequestFailedError if the generation was aborted."""
        if self._held and not self._has_called:
            yield from self._first_text(self._held)
        yield from self._close()
        end = message_end(self._finish_reason, self._stop_string, usage, self._request)
        yield MessageDelta(type="message_delta", delta=end, usage=message_usage(usage))
        yield MessageStop(type="message_stop")

    def _chunk(self, chunk: ChatCompletionChunk) -> Iterator[EventPart]:
        for choice in chunk.choices:
            yield from self._delta(choice.delta)
            if choice.finish_reason is not None:
                self._finish_reason, self._stop_string = choice.finish_reason, choice.stop_reason

    def _delta(self, delta: ChatDelta) -> Iterator[EventPart]:
        if delta.reasoning_content:
            yield from self._thinking(delta.reasoning_content)
        if delta.content:
            yield from self._text(delta.content)
        for call in delta.tool_calls or ():
            yield from self._call(call)

    def _thinking(self, text: str) -> Iterator[EventPart]:
        empty = ThinkingContent(type="thinking", thinking="", signature="")
        yield from self._opened(_Kind.THINKING, empty)
        if self._shows_thinking:
            yield self._added(ThinkingDelta(type="thinking_delta", thinking=text))

    def _text(self, text: str) -> Iterable[EventPart]:
        if self._open is not None and self._open.kind is _Kind.TEXT:
            return (TextPart(self._open.index, text),)
        self._held += text
        return () if text.isspace() else self._first_text(self._held)

    def _first_text(self, text: str) -> Iterator[EventPart]:
        self._held = ""
        yield from self._opened(_Kind.TEXT, TextContent(type="text", text=""))
        yield TextPart(self._num_blocks - 1, text)

    def _call(self, call: ToolCallDelta) -> Iterator[EventPart]:
        if call.id is not None:
            self._has_called, self._held = True, ""
            name = call.function.name or ""
            content = ToolUseContent(type="tool_use", id=tool_use_id(call.id), name=name, input={})
            yield from self._close()
            yield from self._opened(_Kind.TOOL_USE, content)
        if call.function.arguments:
            more = call.function.arguments
            yield self._added(InputJsonDelta(type="input_json_delta", partial_json=more))

    def _opened(self, kind: _Kind, content: Content) -> Iterator[EventPart]:
        """Make sure that a block of this kind is open, which begins with this content."""
        if self._open is not None and self._open.kind is kind:
            return
        yield from self._close()
        self._open = _OpenBlock(kind, self._num_blocks)
        self._num_blocks += 1
        yield ContentBlockStart(type="content_block_start", index=self._open.index, content_block=content)

    def _added(self, delta: BlockDelta) -> ContentBlockDelta:
        return ContentBlockDelta(type="content_block_delta", index=self._num_blocks - 1, delta=delta)

    def _close(self) -> Iterator[EventPart]:
        if self._open is None:
            return
        if self._open.kind is _Kind.THINKING:
            yield self._added(SignatureDelta(type="signature_delta", signature=""))
        yield ContentBlockStop(type="content_block_stop", index=self._open.index)
        self._open = None


def text_event(part: TextPart) -> ContentBlockDelta:
    """Return the event that adds text to a block."""
    delta = TextDelta(type="text_delta", text=part.text)
    return ContentBlockDelta(type="content_block_delta", index=part.choice, delta=delta)

"""One choice of a chat reply: its text is split into content and tool calls, as a message or as chunks."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

from mlc_serve.frontend.chat_logprobs import ChatLogprobsWriter
from mlc_serve.frontend.choice import TextDelta
from mlc_serve.frontend.logprob_table import LogprobTable
from mlc_serve.frontend.reply_fields import stop_fields, wire_reason
from mlc_serve.protocol.replies import (
    AssistantMessage,
    ChatChoice,
    ChatChunkChoice,
    ChatDelta,
    ChatLogprobs,
    ChoiceEnd,
    FunctionDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallFunction,
)
from mlc_serve.text.tool_calls import ToolCallParser
from mlc_serve.text.written_calls import ToolCall as ParsedCall


@dataclass(frozen=True)
class ChatOptions:
    """How the client wants the choices of its reply to be written."""

    parses_tools: bool
    logprobs: bool
    ends_after_call: bool = False


@dataclass(frozen=True)
class ChatPart:
    """What one delta adds to a message."""

    content: str
    calls: tuple[ParsedCall, ...]
    finish_reason: ChoiceEnd | None


class ChatText:
    """Splits the text of one choice into content and tool calls."""

    def __init__(self, options: ChatOptions) -> None:
        self._parser = ToolCallParser() if options.parses_tools else None
        self._ends_after_call = options.ends_after_call
        self._has_called = False
        self._ends_in_call = False

    def push(self, delta: TextDelta) -> ChatPart:
        """Return what the delta completes.

        A choice that called a tool finishes with tool_calls, unless it was cut off in the text after the
        call. With `ends_after_call` it finishes right after its first call.
        """
        end = wire_reason(delta.finish_reason)
        if self._parser is None:
            return ChatPart(delta.text, (), end)
        pieces = self._parser.push(delta.text)
        if end is not None:
            pieces += self._parser.finish()
        if self._ends_after_call and (num_pieces := _through_first_call(pieces)):
            pieces, end = pieces[:num_pieces], "stop"
        content = "".join(piece for piece in pieces if isinstance(piece, str))
        calls = tuple(piece for piece in pieces if isinstance(piece, ParsedCall))
        self._has_called = self._has_called or bool(calls)
        if pieces:
            self._ends_in_call = isinstance(pieces[-1], ParsedCall)
        is_call = (end == "stop" and self._has_called) or (end == "length" and self._ends_in_call)
        return ChatPart(content, calls, "tool_calls" if is_call else end)


def _through_first_call(pieces: Sequence[str | ParsedCall]) -> int:
    """Return the number of pieces up to and including the first call, or 0 if there is no call."""
    calls = (number for number, piece in enumerate(pieces, 1) if isinstance(piece, ParsedCall))
    return next(calls, 0)


class ChatMessageWriter:
    """Collects one choice into a whole message, and its logprobs in `logprobs`."""

    def __init__(self, index: int, options: ChatOptions) -> None:
        self._index = index
        self._text = ChatText(options)
        self._content = StringIO()
        self._calls: list[ParsedCall] = []
        self._end: ChoiceEnd | None = None
        self._stop: dict[str, str] = {}
        self.logprobs = LogprobTable()

    def add(self, delta: TextDelta) -> None:
        """Add one more delta; deltas after the end are dropped."""
        if self.has_ended:
            return
        part = self._text.push(delta)
        self._content.write(part.content)
        self._calls += part.calls
        self._end = part.finish_reason
        self._stop = stop_fields(delta.stop_string)
        self.logprobs.add(delta.logprobs)

    @property
    def has_ended(self) -> bool:
        """Whether the choice is complete."""
        return self._end is not None

    def choice(self) -> ChatChoice:
        """Return the whole choice. Call this after its last delta."""
        content = self._content.getvalue()
        calls = [_tool_call(call) for call in self._calls]
        called: dict[str, Any] = {"tool_calls": calls} if calls else {}
        message = AssistantMessage(
            role="assistant",
            content=None if self._calls and not content.strip() else content,
            refusal=None,
            **called,
        )
        return ChatChoice(
            index=self._index, message=message, logprobs=None, finish_reason=self._end, **self._stop
        )


class ChatChunkWriter:
    """Writes one choice as parts of chunks: its role, content and calls as they arrive, its finish reason."""

    def __init__(self, index: int, options: ChatOptions, logprobs: ChatLogprobsWriter) -> None:
        self._index = index
        self._logprobs = logprobs
        self._options = options
        self._text = ChatText(options)
        self._is_plain = not (options.parses_tools or options.logprobs)
        self._has_begun = False
        self._num_calls = 0
        self.has_ended = False

    def writes_text_alone(self, delta: TextDelta) -> bool:
        """Return whether the part for a delta is only its text, so that `write` need not be called."""
        return self._has_begun and self._is_plain and bool(delta.text) and delta.finish_reason is None

    def write(self, delta: TextDelta) -> Iterator[ChatChunkChoice]:
        """Yield the parts for one delta, none after the end. The first part with output has its logprobs."""
        if self.has_ended:
            return
        if not self._has_begun:
            self._has_begun = True
            yield self._part(ChatDelta(role="assistant", content=""))
        part = self._text.push(delta)
        logprobs = self._logprobs.written(delta.logprobs) if self._logprobs_due(delta) else None
        for chat_delta in self._deltas(part, needs_one=logprobs is not None):
            yield self._part(chat_delta, logprobs)
            logprobs = None
        if part.finish_reason is not None:
            self.has_ended = True
            stop = stop_fields(delta.stop_string)
            yield self._part(ChatDelta(), end=part.finish_reason).model_copy(update=stop)

    def _logprobs_due(self, delta: TextDelta) -> bool:
        return self._options.logprobs and bool(delta.logprobs)

    def _deltas(self, part: ChatPart, *, needs_one: bool) -> Iterator[ChatDelta]:
        if part.content or (needs_one and not part.calls):
            yield ChatDelta(content=part.content)
        for call in part.calls:
            yield from _call_deltas(call, self._num_calls)
            self._num_calls += 1

    def _part(
        self, delta: ChatDelta, logprobs: ChatLogprobs | None = None, end: ChoiceEnd | None = None
    ) -> ChatChunkChoice:
        return ChatChunkChoice(index=self._index, delta=delta, logprobs=logprobs, finish_reason=end)


def _call_id() -> str:
    return f"call_{uuid.uuid4().hex}"


def _tool_call(call: ParsedCall) -> ToolCall:
    function = ToolCallFunction(name=call.name, arguments=call.arguments)
    return ToolCall(id=_call_id(), type="function", function=function)


def _call_deltas(call: ParsedCall, index: int) -> Iterator[ChatDelta]:
    """Yield the name of the called function, then its arguments."""
    named = FunctionDelta(name=call.name, arguments="")
    first = ToolCallDelta(index=index, id=_call_id(), type="function", function=named)
    rest = ToolCallDelta(index=index, function=FunctionDelta(arguments=call.arguments))
    for delta in (first, rest):
        yield ChatDelta(tool_calls=[delta])

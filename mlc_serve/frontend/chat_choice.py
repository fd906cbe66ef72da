"""One choice of a chat reply: its text is split into content, reasoning and tool calls, as a message or as
chunks.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
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
from mlc_serve.text.answer_parser import AnswerParser
from mlc_serve.text.calls.parts import CallArguments, CallEnd, CallStart, Part, Reasoning


@dataclass(frozen=True)
class ChatOptions:
    """How the client wants the choices of its reply to be written. Without `new_parser` all is content."""

    logprobs: bool = False
    new_parser: Callable[[], AnswerParser] | None = None
    ends_after_call: bool = False
    shows_reasoning: bool = True


@dataclass(frozen=True)
class ChatPart:
    """What one delta adds to a message."""

    parts: Sequence[Part]
    finish_reason: ChoiceEnd | None


class ChatText:
    """Splits the text of one choice into content, reasoning and tool calls.

    `num_reasoning_tokens` counts the tokens of deltas that contain reasoning or its marks.
    """

    def __init__(self, options: ChatOptions) -> None:
        self._parser = None if options.new_parser is None else options.new_parser()
        self._ends_after_call = options.ends_after_call
        self._shows_reasoning = options.shows_reasoning
        self._has_called = False
        self._ends_in_call = False
        self.num_reasoning_tokens = 0

    @property
    def is_plain(self) -> bool:
        """Whether all that may follow is content."""
        return self._parser is None or self._parser.is_plain

    def push(self, delta: TextDelta) -> ChatPart:
        """Return what the delta completes.

        A choice that called a tool finishes with tool_calls, unless it was cut off in a call or in the text
        after it. With `ends_after_call` it finishes right after its first call.
        """
        end = wire_reason(delta.finish_reason)
        if self._parser is None:
            return ChatPart([delta.text] if delta.text else [], end)
        parts = self._parsed(self._parser, delta, is_last=end is not None)
        if self._ends_after_call and CallEnd() in parts:
            parts, end = parts[: parts.index(CallEnd()) + 1], "stop"
        self._has_called = self._has_called or any(isinstance(part, CallStart) for part in parts)
        if parts:
            self._ends_in_call = isinstance(parts[-1], CallEnd)
        is_call = (end == "stop" and self._has_called) or (end == "length" and self._ends_in_call)
        if not self._shows_reasoning:
            parts = [part for part in parts if not isinstance(part, Reasoning)]
        return ChatPart(parts, "tool_calls" if is_call else end)

    def _parsed(self, parser: AnswerParser, delta: TextDelta, *, is_last: bool) -> list[Part]:
        """Return the parts that a delta completes, and count its tokens if any is in the reasoning."""
        was_in_reasoning = parser.is_in_reasoning
        parts = parser.push(delta.text)
        if is_last:
            parts += parser.finish()
        is_in_reasoning = was_in_reasoning or parser.is_in_reasoning
        if is_in_reasoning or any(isinstance(part, Reasoning) for part in parts):
            self.num_reasoning_tokens += len(delta.token_ids)
        return parts


class ChatMessageWriter:
    """Collects one choice into a whole message, and its logprobs in `logprobs`."""

    def __init__(self, index: int, options: ChatOptions) -> None:
        self._index = index
        self._text = ChatText(options)
        self._content, self._reasoning = StringIO(), StringIO()
        self._calls: list[_WrittenCall] = []
        self._end: ChoiceEnd | None = None
        self._stop: dict[str, str] = {}
        self.logprobs = LogprobTable()

    def add(self, delta: TextDelta) -> None:
        """Add one more delta; deltas after the end are dropped."""
        if self.has_ended:
            return
        added = self._text.push(delta)
        for part in added.parts:
            self._add(part)
        self._end = added.finish_reason
        self._stop = stop_fields(delta.stop_string)
        self.logprobs.add(delta.logprobs)

    @property
    def has_ended(self) -> bool:
        """Whether the choice is complete."""
        return self._end is not None

    @property
    def num_reasoning_tokens(self) -> int:
        """The number of tokens of reasoning so far."""
        return self._text.num_reasoning_tokens

    def choice(self) -> ChatChoice:
        """Return the whole choice. Call this after its last delta."""
        content, reasoning = self._content.getvalue(), self._reasoning.getvalue()
        calls = [call.tool_call() for call in self._calls]
        written: dict[str, Any] = {"content": None if calls and not content.strip() else content}
        if reasoning:
            written |= {"reasoning_content": reasoning, "reasoning": reasoning}
        if calls:
            written["tool_calls"] = calls
        message = AssistantMessage(role="assistant", refusal=None, **written)
        return ChatChoice(
            index=self._index, message=message, logprobs=None, finish_reason=self._end, **self._stop
        )

    def _add(self, part: Part) -> None:
        if isinstance(part, str):
            self._content.write(part)
        elif isinstance(part, Reasoning):
            self._reasoning.write(part.text)
        elif isinstance(part, CallStart):
            self._calls.append(_WrittenCall(part.name))
        elif isinstance(part, CallArguments):
            self._calls[-1].arguments.write(part.text)


class _WrittenCall:
    """A call of which the arguments are collected."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.arguments = StringIO()

    def tool_call(self) -> ToolCall:
        """Return the call as it is sent."""
        function = ToolCallFunction(name=self._name, arguments=self.arguments.getvalue())
        return ToolCall(id=_call_id(), type="function", function=function)


class ChatChunkWriter:
    """Writes one choice as parts of chunks: its role, then content, reasoning and calls as they arrive, and
    its finish reason.
    """

    def __init__(self, index: int, options: ChatOptions, logprobs: ChatLogprobsWriter) -> None:
        self._index = index
        self._logprobs = logprobs
        self._options = options
        self._text = ChatText(options)
        self._has_begun = False
        self._num_calls = 0
        self.has_ended = False

    @property
    def num_reasoning_tokens(self) -> int:
        """The number of tokens of reasoning so far."""
        return self._text.num_reasoning_tokens

    def writes_text_alone(self, delta: TextDelta) -> bool:
        """Return whether the part for a delta is only its text, so that `write` need not be called."""
        return (
            self._has_begun
            and bool(delta.text)
            and delta.finish_reason is None
            and not self._options.logprobs
            and self._text.is_plain
        )

    def write(self, delta: TextDelta) -> Iterator[ChatChunkChoice]:
        """Yield the parts for one delta, none after the end. The first part with output has its logprobs."""
        if self.has_ended:
            return
        if not self._has_begun:
            self._has_begun = True
            yield self._part(ChatDelta(role="assistant", content=""))
        added = self._text.push(delta)
        logprobs = self._logprobs.written(delta.logprobs) if self._logprobs_due(delta) else None
        deltas = [chat_delta for part in added.parts for chat_delta in self._deltas(part)]
        for chat_delta in deltas or ([ChatDelta(content="")] if logprobs is not None else []):
            yield self._part(chat_delta, logprobs)
            logprobs = None
        if added.finish_reason is not None:
            self.has_ended = True
            stop = stop_fields(delta.stop_string)
            yield self._part(ChatDelta(), end=added.finish_reason).model_copy(update=stop)

    def _logprobs_due(self, delta: TextDelta) -> bool:
        return self._options.logprobs and bool(delta.logprobs)

    def _deltas(self, part: Part) -> Iterator[ChatDelta]:
        if isinstance(part, str):
            yield ChatDelta(content=part)
        elif isinstance(part, Reasoning):
            yield ChatDelta(reasoning_content=part.text, reasoning=part.text)
        elif isinstance(part, CallStart):
            self._num_calls += 1
            named = FunctionDelta(name=part.name, arguments="")
            yield self._call_delta(id=_call_id(), type="function", function=named)
        elif isinstance(part, CallArguments):
            yield self._call_delta(function=FunctionDelta(arguments=part.text))

    def _call_delta(self, **fields: Any) -> ChatDelta:
        return ChatDelta(tool_calls=[ToolCallDelta(index=self._num_calls - 1, **fields)])

    def _part(
        self, delta: ChatDelta, logprobs: ChatLogprobs | None = None, end: ChoiceEnd | None = None
    ) -> ChatChunkChoice:
        return ChatChunkChoice(index=self._index, delta=delta, logprobs=logprobs, finish_reason=end)


def _call_id() -> str:
    return f"call_{uuid.uuid4().hex}"

"""Writes the events of a streamed response from the parts of a chat's stream."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from itertools import count
from time import time

from mlc_serve.errors import RequestError
from mlc_serve.frontend.responses.open_items import (
    MESSAGE,
    REASONING,
    OpenCall,
    OpenItem,
    OpenText,
    Slot,
    TextKind,
)
from mlc_serve.frontend.responses.output import begun, ended, last_status
from mlc_serve.protocol.replies import (
    ChatChunkChoice,
    ChatCompletionChunk,
    ChoiceEnd,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from mlc_serve.protocol.reply_stream import TextPart
from mlc_serve.protocol.responses.events import ErrorEvent, Event, ProgressEvent
from mlc_serve.protocol.responses.replies import OutputItem, ResponseFailure


class EventWriter:
    """Writes one response. An item ends when another kind of output begins, or the response ends.

    `settings` is the JSON of its ResponseSettings.
    """

    def __init__(self, response_id: str, settings: str) -> None:
        self.progress = begun(response_id, int(time()))
        self._settings = settings
        self._number = count().__next__
        self._output: list[OutputItem] = []
        self._open: OpenItem | None = None
        self._held: list[TokenLogprob] = []
        self._end: ChoiceEnd | None = None
        self._usage: Usage | None = None

    def begin(self) -> Iterator[Event]:
        """Yield the first events."""
        yield self._progress_event("response.created")
        yield self._progress_event("response.in_progress")

    def add(self, part: ChatCompletionChunk | TextPart) -> Iterator[Event]:
        """Yield the events for one part of the chat's stream."""
        if isinstance(part, TextPart):
            yield from self._add_text(MESSAGE, part.text)
            return
        self._usage = part.usage or self._usage
        for choice in part.choices:
            yield from self._add_choice(choice)

    def end(self) -> Iterator[Event]:
        """Yield the last events. An output without any text has an empty message."""
        if self._open is None and not self._output:
            yield from self._opened(OpenText(MESSAGE, self._slot()))
        yield from self._close(is_last=True)
        self.progress = ended(self.progress, self._output, self._end, self._usage, int(time()))
        yield self._progress_event(f"response.{self.progress.status}")

    def fail(self, error: RequestError) -> Iterator[Event]:
        """Yield the last events of a response that has failed."""
        yield ErrorEvent(
            type="error",
            code=error.code,
            message=error.message,
            param=error.param,
            sequence_number=self._number(),
        )
        output = [*self._output, self._open.item("incomplete")] if self._open else self._output
        failure = ResponseFailure(code="server_error", message=error.message)
        changes = {"status": "failed", "error": failure, "output": output}
        self.progress = self.progress.model_copy(update=changes)
        yield self._progress_event("response.failed")

    def _add_choice(self, choice: ChatChunkChoice) -> Iterator[Event]:
        delta = choice.delta
        if delta.reasoning_content:
            yield from self._add_text(REASONING, delta.reasoning_content)
        if choice.logprobs is not None and delta.content is not None:
            yield from self._add_logprobs(delta.content, choice.logprobs.content)
        elif delta.content:
            yield from self._add_text(MESSAGE, delta.content)
        for call in delta.tool_calls or ():
            yield from self._add_call(call)
        self._end = choice.finish_reason or self._end

    def _add_text(self, kind: TextKind, text: str) -> Iterator[Event]:
        item = yield from self._text_of(kind)
        yield item.add(text)

    def _add_logprobs(self, text: str, logprobs: Sequence[TokenLogprob]) -> Iterator[Event]:
        """Yield the event for a text with logprobs. Tokens whose text is still held back may become part of
        a call, so they don't begin a message.
        """
        self._held += logprobs
        if text or (isinstance(self._open, OpenText) and self._open.kind is MESSAGE):
            message = yield from self._text_of(MESSAGE)
            yield message.add_with_logprobs(text, self._held)
            self._held = []

    def _text_of(self, kind: TextKind) -> Generator[Event, None, OpenText]:
        """Return the open text of this kind, after the events with which it begins if there is none."""
        if isinstance(self._open, OpenText) and self._open.kind is kind:
            return self._open
        item = OpenText(kind, self._slot())
        yield from self._opened(item)
        return item

    def _add_call(self, delta: ToolCallDelta) -> Iterator[Event]:
        """Yield the events for a piece of a call. Only the first piece of a call has its id."""
        if delta.id is not None:
            self._held = []
            yield from self._opened(OpenCall(delta.id, delta.function.name or "", self._slot()))
        if delta.function.arguments and self._open is not None:
            yield self._open.add(delta.function.arguments)

    def _opened(self, item: OpenItem) -> Iterator[Event]:
        yield from self._close(is_last=False)
        self._open = item
        yield from item.begin()

    def _close(self, *, is_last: bool) -> Iterator[Event]:
        if self._open is None:
            return
        item = self._open.item(last_status(self._end) if is_last else "completed")
        yield from self._open.end(item)
        self._output.append(item)
        self._open = None

    def _slot(self) -> Slot:
        """Return the slot of the next item. An item that is still open comes before it."""
        return Slot(len(self._output) + (self._open is not None), self._number)

    def _progress_event(self, kind: str) -> ProgressEvent:
        return ProgressEvent(kind, self.progress, self._settings, self._number())

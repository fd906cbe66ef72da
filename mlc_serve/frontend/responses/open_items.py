"""The item of a streamed response that is being written: a message, reasoning or a call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from typing import Any, Literal, Protocol

from mlc_serve.frontend.responses.output import (
    call_item,
    message_item,
    new_id,
    output_text,
    reasoning_item,
    reasoning_text,
)
from mlc_serve.protocol.replies import TokenLogprob
from mlc_serve.protocol.responses.events import (
    ArgumentsDone,
    Delta,
    Event,
    ItemEvent,
    LogprobsDelta,
    PartEvent,
    TextDone,
    delta_head,
)
from mlc_serve.protocol.responses.replies import (
    ItemStatus,
    OutputItem,
    OutputReasoningText,
    OutputText,
)

ItemStep = Literal["response.output_item.added", "response.output_item.done"]
PartStep = Literal["response.content_part.added", "response.content_part.done"]


@dataclass(frozen=True)
class Slot:
    """The position of an item in the output, and what numbers its events."""

    output_index: int
    number: Callable[[], int]

    def item_event(self, step: ItemStep, item: OutputItem) -> ItemEvent:
        """Return the event that an item begins or is complete."""
        return ItemEvent(type=step, output_index=self.output_index, item=item, sequence_number=self.number())


class OpenItem(Protocol):
    """An item that is being written."""

    def begin(self) -> Iterator[Event]:
        """Yield the events with which it begins."""

    def add(self, text: str) -> Delta:
        """Return the event for a further piece of its text."""

    def end(self, item: OutputItem) -> Iterator[Event]:
        """Yield the events with which it ends as this item."""

    def item(self, status: ItemStatus) -> OutputItem:
        """Return the item as it is so far."""


@dataclass(frozen=True)
class TextKind:
    """In what the events of a message and those of reasoning differ.

    `item` makes an item of its id, its text and its status; a text of None has not begun. `delta_fields` are
    further fields of deltas as JSON, `done_fields` those of the event with the whole text.
    """

    delta: Literal["response.output_text.delta", "response.reasoning_text.delta"]
    done: Literal["response.output_text.done", "response.reasoning_text.done"]
    id_prefix: str
    part: Callable[[str], OutputText | OutputReasoningText]
    item: Callable[[str, str | None, ItemStatus], OutputItem]
    delta_fields: Mapping[str, str] = field(default_factory=dict)
    done_fields: Mapping[str, Any] = field(default_factory=dict)


def _message(item_id: str, text: str | None, status: ItemStatus) -> OutputItem:
    return message_item(item_id, [] if text is None else [output_text(text)], status)


MESSAGE = TextKind(
    "response.output_text.delta",
    "response.output_text.done",
    "msg",
    output_text,
    _message,
    {"logprobs": "[]"},
    {"logprobs": []},
)
REASONING = TextKind(
    "response.reasoning_text.delta", "response.reasoning_text.done", "rs", reasoning_text, reasoning_item
)


class OpenText:
    """A message or reasoning, each of which has one text. Implements OpenItem."""

    def __init__(self, kind: TextKind, slot: Slot) -> None:
        self.kind = kind
        self._slot = slot
        self._id = new_id(kind.id_prefix)
        self._where: dict[str, Any] = {
            "item_id": self._id,
            "output_index": slot.output_index,
            "content_index": 0,
        }
        fields = {"content_index": 0, **kind.delta_fields}
        self._head = delta_head(kind.delta, self._id, slot.output_index, **fields)
        self._text = StringIO()

    def begin(self) -> Iterator[Event]:
        """See OpenItem."""
        item = self.kind.item(self._id, None, "in_progress")
        yield self._slot.item_event("response.output_item.added", item)
        yield self._part("response.content_part.added", "")

    def add(self, text: str) -> Delta:
        """See OpenItem."""
        self._text.write(text)
        return Delta(self.kind.delta, self._head, text, self._slot.number())

    def add_with_logprobs(self, text: str, logprobs: Sequence[TokenLogprob]) -> LogprobsDelta:
        """Return the event for a further piece of a message's text with the logprobs of its tokens."""
        self._text.write(text)
        return LogprobsDelta(
            type="response.output_text.delta",
            **self._where,
            delta=text,
            logprobs=list(logprobs),
            sequence_number=self._slot.number(),
        )

    def end(self, item: OutputItem) -> Iterator[Event]:
        """See OpenItem."""
        text = self._text.getvalue()
        yield TextDone(
            type=self.kind.done,
            **self._where,
            text=text,
            **self.kind.done_fields,
            sequence_number=self._slot.number(),
        )
        yield self._part("response.content_part.done", text)
        yield self._slot.item_event("response.output_item.done", item)

    def item(self, status: ItemStatus) -> OutputItem:
        """See OpenItem."""
        return self.kind.item(self._id, self._text.getvalue(), status)

    def _part(self, step: PartStep, text: str) -> PartEvent:
        part = self.kind.part(text)
        return PartEvent(type=step, **self._where, part=part, sequence_number=self._slot.number())


class OpenCall:
    """A call, whose text is its arguments. Implements OpenItem."""

    def __init__(self, call_id: str, name: str, slot: Slot) -> None:
        self._call_id = call_id
        self._name = name
        self._slot = slot
        self._id = new_id("fc")
        self._delta = "response.function_call_arguments.delta"
        self._head = delta_head(self._delta, self._id, slot.output_index)
        self._arguments = StringIO()

    def begin(self) -> Iterator[Event]:
        """See OpenItem."""
        yield self._slot.item_event("response.output_item.added", self.item("in_progress"))

    def add(self, text: str) -> Delta:
        """See OpenItem."""
        self._arguments.write(text)
        return Delta(self._delta, self._head, text, self._slot.number())

    def end(self, item: OutputItem) -> Iterator[Event]:
        """See OpenItem."""
        yield ArgumentsDone(
            type="response.function_call_arguments.done",
            item_id=self._id,
            output_index=self._slot.output_index,
            name=self._name,
            arguments=self._arguments.getvalue(),
            sequence_number=self._slot.number(),
        )
        yield self._slot.item_event("response.output_item.done", item)

    def item(self, status: ItemStatus) -> OutputItem:
        """See OpenItem."""
        return call_item(self._id, self._call_id, self._name, self._arguments.getvalue(), status)

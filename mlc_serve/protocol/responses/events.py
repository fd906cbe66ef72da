"""The events of a streamed response, each of which has a type and a sequence number."""

from __future__ import annotations

from dataclasses import dataclass
from json.encoder import encode_basestring as _quoted
from typing import Any, Literal

from mlc_serve.protocol.replies import Reply, TokenLogprob
from mlc_serve.protocol.responses.replies import (
    OutputItem,
    OutputReasoningText,
    OutputText,
    Response,
    ResponseProgress,
    joined,
)


class ItemEvent(Reply):
    """An item of the output begins or is complete."""

    type: Literal["response.output_item.added", "response.output_item.done"]
    output_index: int
    item: OutputItem
    sequence_number: int


class PartEvent(Reply):
    """The text of an item begins or is complete."""

    type: Literal["response.content_part.added", "response.content_part.done"]
    item_id: str
    output_index: int
    content_index: int
    part: OutputText | OutputReasoningText
    sequence_number: int


class TextDone(Reply):
    """The whole text of an item. Only a message has the field `logprobs`."""

    type: Literal["response.output_text.done", "response.reasoning_text.done"]
    item_id: str
    output_index: int
    content_index: int
    text: str
    logprobs: list[TokenLogprob] | None = None
    sequence_number: int


class ArgumentsDone(Reply):
    """The arguments of a call."""

    type: Literal["response.function_call_arguments.done"]
    item_id: str
    output_index: int
    name: str
    arguments: str
    sequence_number: int


class LogprobsDelta(Reply):
    """A piece of a message's text with the logprobs of its tokens."""

    type: Literal["response.output_text.delta"]
    item_id: str
    output_index: int
    content_index: int
    delta: str
    logprobs: list[TokenLogprob]
    sequence_number: int


class ErrorEvent(Reply):
    """An error that ends the stream."""

    type: Literal["error"]
    code: str | None
    message: str
    param: str | None
    sequence_number: int


class LifecycleEvent(Reply):
    """How an event with a whole response looks. ProgressEvent writes it."""

    type: Literal[
        "response.created",
        "response.in_progress",
        "response.completed",
        "response.incomplete",
        "response.failed",
    ]
    response: Response
    sequence_number: int


@dataclass(frozen=True)
class ProgressEvent:
    """An event with the whole response, whose `settings` have been made into JSON before."""

    type: str
    progress: ResponseProgress
    settings: str
    sequence_number: int

    def to_json(self) -> str:
        """Return the JSON of a LifecycleEvent."""
        response = joined(self.progress.to_json(), self.settings)
        return f'{{"type":"{self.type}","response":{response},"sequence_number":{self.sequence_number}}}'


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a text or of a call's arguments. `head` is the JSON before it, the same in a whole item."""

    type: str
    head: str
    delta: str
    sequence_number: int

    def to_json(self) -> str:
        """Return the JSON of the event. There is one for each token, so it is not made by pydantic."""
        return f'{self.head}{_quoted(self.delta)},"sequence_number":{self.sequence_number}}}'


Event = ItemEvent | PartEvent | TextDone | ArgumentsDone | LogprobsDelta | ErrorEvent | ProgressEvent | Delta


def delta_head(kind: str, item_id: str, output_index: int, **more: Any) -> str:
    """Return the head of an item's deltas. `more` are further fields as JSON."""
    fields = "".join(f',"{name}":{value}' for name, value in more.items())
    return f'{{"type":"{kind}","item_id":"{item_id}","output_index":{output_index}{fields},"delta":'

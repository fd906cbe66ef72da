"""Wire types of the items of a conversation: messages, calls of functions and their outputs, reasoning.

A client may send back the items of a reply as they are. Fields that only a reply needs have no effect here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, FailFast, Field, PlainValidator, ValidationInfo

from mlc_serve.protocol.first_faults import FIRST_FAULTS
from mlc_serve.protocol.messages import Arguments, Content
from mlc_serve.protocol.refusals import refuse_invalid, refuse_unsupported
from mlc_serve.protocol.request_part import RequestPart, WithoutEffect
from mlc_serve.protocol.unknown_fields import UnknownFields

_STATE_OF_A_REPLY = WithoutEffect("it says how far a reply had come")
_OTHERS_DETAILS = WithoutEffect("details of other services' replies are not used")


class InputMessage(RequestPart):
    """A message of the user, the system or the assistant. `content` is a text or a list of texts."""

    PLACE: ClassVar = "input"
    WITHOUT_EFFECT: ClassVar = {"status": _STATE_OF_A_REPLY, "phase": _OTHERS_DETAILS}

    type: Literal["message"] = Field(default="message", description="May be left out.")
    id: str | None = Field(default=None, description="The id of a message in an earlier reply.")
    role: Literal["system", "developer", "user", "assistant"] = Field(
        description="Who wrote the message; `developer` is another name for `system`."
    )
    content: Content = Field(
        description="A text, or parts of type `input_text`, `output_text` or `refusal`. Images, files and "
        "sound are not supported."
    )

    def listed(self) -> dict[str, Any]:
        """Return the message as lists of items show it."""
        texts = [self.content] if isinstance(self.content, str) else self.content
        extra: dict[str, Any] = {"annotations": []} if self.role == "assistant" else {}
        kind = "output_text" if self.role == "assistant" else "input_text"
        content = [{"type": kind, "text": text, **extra} for text in texts]
        return {"type": "message", "role": self.role, "content": content, "status": "completed"}


class FunctionCall(RequestPart):
    """A call that the model made earlier."""

    PLACE: ClassVar = "input"
    WITHOUT_EFFECT: ClassVar = {
        "status": _STATE_OF_A_REPLY,
        "namespace": _OTHERS_DETAILS,
        "caller": _OTHERS_DETAILS,
        "async": _OTHERS_DETAILS,
    }

    type: Literal["function_call"] = Field(description="The kind of item.")
    id: str | None = Field(default=None, description="The id of the item in an earlier reply.")
    call_id: str = Field(description="The call's id, to which its output refers.")
    name: str = Field(min_length=1, description="The function's name.")
    arguments: Arguments = Field(
        default="{}",
        description="A string that contains a JSON object. Any other text is shown to the model as it is.",
    )

    def listed(self) -> dict[str, Any]:
        """Return the call as lists of items show it."""
        return {**self.model_dump(exclude={"id"}), "status": "completed"}


class FunctionCallOutput(RequestPart):
    """What a function returned."""

    PLACE: ClassVar = "input"
    WITHOUT_EFFECT: ClassVar = {
        "status": _STATE_OF_A_REPLY,
        "name": _OTHERS_DETAILS,
        "namespace": _OTHERS_DETAILS,
        "caller": _OTHERS_DETAILS,
    }

    type: Literal["function_call_output"] = Field(description="The kind of item.")
    id: str | None = Field(default=None, description="The item's id.")
    call_id: str = Field(description="The id of the call.")
    output: Content = Field(description="A text, or parts of type `input_text`.")

    def listed(self) -> dict[str, Any]:
        """Return the output as lists of items show it."""
        text = self.output if isinstance(self.output, str) else "".join(self.output)
        return {"type": self.type, "call_id": self.call_id, "output": text, "status": "completed"}


class ReasoningText(RequestPart):
    """A part of the content or of the summary of a reasoning item."""

    PLACE: ClassVar = "input.content"

    type: Literal["reasoning_text", "summary_text"] = Field(description="The kind of text.")
    text: str = Field(description="The text.")


ReasoningTexts = Annotated[list[ReasoningText], FailFast(), FIRST_FAULTS]


class ReasoningItem(RequestPart):
    """The assistant's reasoning before its next item, for templates that show it."""

    PLACE: ClassVar = "input"
    WITHOUT_EFFECT: ClassVar = {
        "status": _STATE_OF_A_REPLY,
        "encrypted_content": WithoutEffect("only the service that encrypted it could read it"),
    }

    type: Literal["reasoning"] = Field(description="The kind of item.")
    id: str | None = Field(default=None, description="The id of the item in an earlier reply.")
    summary: ReasoningTexts = Field(
        default_factory=list, description="Stands for the reasoning if there is no `content`."
    )
    content: ReasoningTexts = Field(default_factory=list, description="The reasoning.")

    @property
    def text(self) -> str:
        """The reasoning, or its summary if that is all there is."""
        return "".join(part.text for part in self.content or self.summary)

    def listed(self) -> dict[str, Any]:
        """Return the reasoning as lists of items show it."""
        return {**self.model_dump(exclude={"id"}), "status": "completed"}


class ItemReference(RequestPart):
    """Stands for an item of a stored response."""

    PLACE: ClassVar = "input"

    type: Literal["item_reference"] = Field(
        default="item_reference", description="May be left out if only the id is sent."
    )
    id: str = Field(description="The id of the item.")


Item = InputMessage | FunctionCall | FunctionCallOutput | ReasoningItem
SentItem = Item | ItemReference


@dataclass(frozen=True)
class StoredItem:
    """An item of a conversation as it is stored. `text` is its JSON, which contains the id."""

    id: str
    text: bytes


_KINDS: Mapping[str, type[SentItem]] = {
    "message": InputMessage,
    "function_call": FunctionCall,
    "function_call_output": FunctionCallOutput,
    "reasoning": ReasoningItem,
    "item_reference": ItemReference,
}


def _checked(value: object, info: ValidationInfo) -> SentItem:
    """Return the item of the type that it says. Items of other types are refused by the type's name."""
    if isinstance(value, SentItem):
        return value
    if not isinstance(value, Mapping):
        refuse_invalid("must be an object with a type")
    kind = value.get("type") or ("message" if "role" in value else "item_reference")
    if not isinstance(kind, str) or kind not in _KINDS:
        refuse_unsupported(f"items of type {str(kind)[:40]!r} are not supported", "type")
    return _KINDS[kind].model_validate(value, context=info.context)


def _as_items(value: object) -> object:
    """Accept a text as the user's message."""
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    if not isinstance(value, list | tuple):
        refuse_invalid("must be a string or a list of items")
    return list(value)


Items = Annotated[
    list[Annotated[SentItem, PlainValidator(_checked, json_schema_input_type=SentItem)]],
    FailFast(),
    FIRST_FAULTS,
    BeforeValidator(_as_items, json_schema_input_type=str | list[SentItem]),
]


def read_item(fields: Mapping[str, Any]) -> Item:
    """Return an item that was written by this server, with a type that a conversation may have."""
    kind: type[Any] = _KINDS[fields["type"]]
    return kind.model_validate(fields, context=UnknownFields())  # type: ignore[no-any-return]

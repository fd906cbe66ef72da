"""Wire types of a conversation as clients send it: messages, tool calls in the history, tool definitions.

A history may come from another server, or contain a model's mistakes that an agent sends back. Whatever can
be shown to the model is accepted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, FailFast, Field, ValidationInfo, model_validator

from mlc_serve.errors import InvalidRequestError
from mlc_serve.protocol.fields import Integer, JsonObject
from mlc_serve.protocol.first_faults import FIRST_FAULTS
from mlc_serve.protocol.json_text import JsonLimits, parse_json
from mlc_serve.protocol.refusals import refuse_invalid, refuse_unsupported
from mlc_serve.protocol.request_part import RequestPart, WithoutEffect
from mlc_serve.protocol.unknown_fields import UnknownFields

Role = Literal["system", "developer", "user", "assistant", "tool"]

_NOT_CACHED_BY_MARKS = WithoutEffect("the prefix cache needs no marks; it keeps what was used most recently")
_OTHERS_DETAILS = WithoutEffect("details of other services' replies are not used")
_ONLY_FUNCTIONS = WithoutEffect("only functions are supported", only=())
_TEXT_PARTS = ("text", "input_text", "output_text")


class ContentPart(RequestPart):
    """A part of a message's content. Only text is supported, including the text of a refusal."""

    PLACE: ClassVar = "messages.content"
    WITHOUT_EFFECT: ClassVar = {
        "cache_control": _NOT_CACHED_BY_MARKS,
        "prompt_cache_breakpoint": _NOT_CACHED_BY_MARKS,
        "annotations": _OTHERS_DETAILS,
        "logprobs": _OTHERS_DETAILS,
        "id": _OTHERS_DETAILS,
    }

    type: Literal["text", "input_text", "output_text", "refusal"] = Field(
        description="Images and sound are not supported."
    )
    text: str | None = Field(default=None, description="The text, unless the part is a refusal.")
    refusal: str | None = Field(default=None, description="The text of a refusal.")


def _texts_of(content: object, info: ValidationInfo) -> object:
    """Convert a list of parts to a list of their texts; a string stays as it is."""
    if isinstance(content, list | tuple):
        return [_text_of_part(part, position, info.context) for position, part in enumerate(content)]
    if not isinstance(content, str):
        refuse_invalid("must be a string or a list of parts")
    return content


def _text_of_part(part: object, position: int, unknown: UnknownFields | None) -> str:
    """Return the text of one part. A bare string is accepted as a text part, as other servers do."""
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind is None or not isinstance(part, Mapping):
        refuse_invalid(f"part {position} must be an object with a type")
    field = "text" if kind in _TEXT_PARTS else "refusal"
    if kind not in (*_TEXT_PARTS, "refusal"):
        refuse_unsupported(
            f"part {position} is of type {str(kind)[:40]!r}, and only text parts are supported"
        )
    text = ContentPart.honoured(part, unknown).get(field)
    if not isinstance(text, str):
        refuse_invalid(f"part {position} must have a string `{field}`")
    return text


Content = Annotated[
    str | list[str], BeforeValidator(_texts_of, json_schema_input_type=str | list[ContentPart])
]


def _as_json_text(value: object) -> object:
    """Accept an object, since some clients send the arguments themselves instead of their JSON text."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, Mapping) else value


Arguments = Annotated[str, BeforeValidator(_as_json_text, json_schema_input_type=str | JsonObject)]


class CalledFunction(RequestPart):
    """A function that the model called earlier."""

    PLACE: ClassVar = "messages.tool_calls.function"
    WITHOUT_EFFECT: ClassVar = {
        "parsed_arguments": _OTHERS_DETAILS,
        "provider_specific_fields": _OTHERS_DETAILS,
    }

    name: str = Field(min_length=1, description="The function's name.")
    arguments: Arguments = Field(
        default="{}",
        description="A string that contains a JSON object. Any other text is shown to the model as it is.",
    )

    def parsed_arguments(self) -> dict[str, Any]:
        """Return the arguments as templates need them: always an object that can be rendered.

        Null and an empty list mean no arguments. Any other text that is not a JSON object, or exceeds
        JsonLimits, becomes the entry `arguments` of an object.
        """
        try:
            parsed = parse_json(self.arguments.encode() or b"{}", JsonLimits())
        except InvalidRequestError:
            return {"arguments": self.arguments}
        if parsed in (None, []):
            return {}
        return parsed if isinstance(parsed, dict) else {"arguments": self.arguments}


def _supported_type(value: object) -> object:
    if isinstance(value, str) and value != "function":
        refuse_unsupported(f"only functions are supported, not {value[:40]!r}")
    return value


FunctionType = Annotated[Literal["function"], BeforeValidator(_supported_type)]


class CalledTool(RequestPart):
    """A tool call in an earlier assistant message."""

    PLACE: ClassVar = "messages.tool_calls"
    WITHOUT_EFFECT: ClassVar = {
        "cache_control": _NOT_CACHED_BY_MARKS,
        "custom": _ONLY_FUNCTIONS,
        "extra_content": _OTHERS_DETAILS,
        "provider_specific_fields": _OTHERS_DETAILS,
    }

    id: str | None = Field(default=None, description="The call's id, to which the tool's message refers.")
    type: FunctionType = Field(default="function", description="The kind of tool that was called.")
    function: CalledFunction = Field(description="The function that was called, and its arguments.")
    index: Integer | None = Field(default=None, description="The call's position in a streamed reply.")


class Message(RequestPart):
    """A message of the conversation. `content` is a text, or a list of texts if it was sent in parts."""

    PLACE: ClassVar = "messages"
    WITHOUT_EFFECT: ClassVar = {
        "annotations": _OTHERS_DETAILS,
        "audio": _OTHERS_DETAILS,
        "id": _OTHERS_DETAILS,
        "parsed": _OTHERS_DETAILS,
        "provider_specific_fields": _OTHERS_DETAILS,
        "reasoning_details": _OTHERS_DETAILS,
        "thinking_blocks": _OTHERS_DETAILS,
        "cache_control": _NOT_CACHED_BY_MARKS,
        "prefix": WithoutEffect("to continue a message, send continue_final_message", only=(False,)),
        "function_call": WithoutEffect("calls must be sent as tool_calls", only=()),
    }

    role: Role = Field(description="Who wrote the message; `developer` is another name for `system`.")
    content: Content | None = Field(
        default=None, description="A text or text parts; null is allowed for the assistant and for tools."
    )
    name: str | None = Field(default=None, description="The speaker's name, for templates that show it.")
    tool_calls: Annotated[list[CalledTool], FailFast(), FIRST_FAULTS] = Field(
        default_factory=list, description="The calls that the assistant made."
    )
    tool_call_id: str | None = Field(
        default=None, description="The id of the call that a tool's message answers."
    )
    reasoning_content: str | None = Field(
        default=None, description="The assistant's reasoning, for templates that show it."
    )
    reasoning: str | None = Field(default=None, description="Another name for `reasoning_content`.")
    refusal: str | None = Field(default=None, description="The content of a message that has no `content`.")

    @classmethod
    def honoured(cls, data: Mapping[str, Any], unknown: UnknownFields | None) -> dict[str, Any]:
        """Return the honoured fields. Fields that were sent under another name get their own name."""
        fields = super().honoured(data, unknown)
        for other, name in (("reasoning", "reasoning_content"), ("refusal", "content")):
            if other in fields:
                fields.setdefault(name, fields.pop(other))
        return fields

    @model_validator(mode="after")
    def _fields_fit_the_role(self) -> Message:
        if self.tool_calls and self.role != "assistant":
            refuse_invalid("belongs to assistant messages only", "tool_calls")
        if self.tool_call_id is not None and self.role != "tool":
            refuse_invalid("belongs to tool messages only", "tool_call_id")
        if self.content is None and self.role not in ("assistant", "tool"):
            refuse_invalid("is missing", "content")
        return self


class FunctionDefinition(RequestPart):
    """A function that the model may call."""

    PLACE: ClassVar = "tools.function"
    WITHOUT_EFFECT: ClassVar = {"cache_control": _NOT_CACHED_BY_MARKS}

    name: str = Field(min_length=1, description="The function's name.")
    description: str | None = Field(default=None, description="A description for the model.")
    parameters: JsonObject | None = Field(default=None, description="A JSON schema of the arguments.")
    strict: bool = Field(
        default=False, description="If true, calls of this function can only have arguments of its schema."
    )


class Tool(RequestPart):
    """A tool that the model may call."""

    PLACE: ClassVar = "tools"
    WITHOUT_EFFECT: ClassVar = {"cache_control": _NOT_CACHED_BY_MARKS, "custom": _ONLY_FUNCTIONS}

    type: FunctionType = Field(default="function", description="The kind of tool.")
    function: FunctionDefinition = Field(description="The function that the model may call; see below.")

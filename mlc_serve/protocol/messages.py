"""Wire types of a conversation as clients send it: messages, tool calls in the history, tool definitions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from mlc_serve.protocol.fields import RequestPart, refuse_invalid, refuse_unsupported

Role = Literal["system", "developer", "user", "assistant", "tool"]


def _texts_of(content: object) -> object:
    """Parts become the list of their texts; a text stays one."""
    if isinstance(content, list | tuple):
        return [_text_of_part(part, position) for position, part in enumerate(content)]
    if not isinstance(content, str):
        refuse_invalid("must be a string or a list of parts")
    return content


def _text_of_part(part: object, position: int) -> str:
    """The text of one part; a bare string is a part that is text, as other servers take it."""
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind is None:
        refuse_invalid(f"part {position} must be an object with a type")
    if kind != "text":
        refuse_unsupported(f"part {position} is of type {kind!r}, and only text parts are supported")
    text = part.get("text") if isinstance(part, Mapping) else None
    if not isinstance(text, str):
        refuse_invalid(f"part {position} must have a string `text`")
    return text


Content = Annotated[
    str | list[str], BeforeValidator(_texts_of, json_schema_input_type=str | list[dict[str, Any]])
]


class CalledFunction(RequestPart):
    """`arguments` is a string that holds a JSON object."""

    name: str = Field(min_length=1)
    arguments: str = "{}"

    def parsed_arguments(self) -> dict[str, Any]:
        """The arguments as templates want them. ValueError or RecursionError if they aren't an object."""
        parsed = json.loads(self.arguments or "{}")
        if not isinstance(parsed, dict):
            raise ValueError("not a JSON object")
        return parsed


class CalledTool(RequestPart):
    """A tool call in an earlier assistant message. `index` is what streamed deltas carry."""

    id: str | None = None
    type: Literal["function"] = "function"
    function: CalledFunction
    index: int | None = None

    @model_validator(mode="after")
    def _arguments_are_an_object(self) -> CalledTool:
        try:
            self.function.parsed_arguments()
        except (ValueError, RecursionError):
            refuse_invalid("must be a string that holds a JSON object", "function.arguments")
        return self


class Message(RequestPart):
    """One message of the conversation. `content` is a text, or the texts of its parts if it came in parts."""

    role: Role
    content: Content | None = None
    name: str | None = None
    tool_calls: list[CalledTool] = Field(default_factory=list)
    tool_call_id: str | None = None
    reasoning_content: str | None = None

    @model_validator(mode="after")
    def _fields_fit_the_role(self) -> Message:
        if self.tool_calls and self.role != "assistant":
            refuse_invalid("belongs to assistant messages only", "tool_calls")
        if self.tool_call_id is not None and self.role != "tool":
            refuse_invalid("belongs to tool messages only", "tool_call_id")
        if self.content is None and not self.tool_calls and self.reasoning_content is None:
            refuse_invalid("is missing", "content")
        return self


class FunctionDefinition(RequestPart):
    """A function that the model may call; `parameters` is a JSON schema."""

    name: str = Field(min_length=1)
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool = False

    @model_validator(mode="after")
    def _not_strict(self) -> FunctionDefinition:
        if self.strict:
            refuse_unsupported("constrained decoding is not supported yet", "strict")
        return self


class Tool(RequestPart):
    """A tool that the model may call."""

    type: Literal["function"] = "function"
    function: FunctionDefinition

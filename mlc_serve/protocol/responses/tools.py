"""Wire types of the functions that a request for a response offers, and of which of them may be called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import FailFast, Field, PlainValidator, ValidationInfo

from mlc_serve.protocol.fields import JsonObject
from mlc_serve.protocol.first_faults import FIRST_FAULTS
from mlc_serve.protocol.messages import FunctionType
from mlc_serve.protocol.refusals import refuse_invalid, refuse_unsupported
from mlc_serve.protocol.request_part import RequestPart, WithoutEffect

_CALLED_BY_THE_MODEL = WithoutEffect("functions are called by the model only", only=(["direct"], []))


class FunctionTool(RequestPart):
    """A function that the model may call."""

    PLACE: ClassVar = "tools"
    WITHOUT_EFFECT: ClassVar = {
        "allowed_callers": _CALLED_BY_THE_MODEL,
        "async": WithoutEffect("a reply ends with its calls, and the client decides when to answer them"),
        "defer_loading": WithoutEffect("all tools are described in the prompt", only=(False,)),
        "output_schema": WithoutEffect("the outputs of functions are not checked"),
    }

    type: FunctionType = Field(description="The kind of tool. Only functions are supported.")
    name: str = Field(min_length=1, description="The function's name.")
    description: str | None = Field(default=None, description="A description for the model.")
    parameters: JsonObject | None = Field(default=None, description="A JSON schema of the arguments.")
    strict: bool | None = Field(
        default=None, description="Passed on as the field of the same name of a chat's function."
    )


class NamedFunction(RequestPart):
    """A function by its name."""

    PLACE: ClassVar = "tool_choice"

    type: FunctionType = Field(description="The kind of tool.")
    name: str = Field(min_length=1, description="The function's name.")


class AllowedTools(RequestPart):
    """The functions among the request's tools that may be called."""

    PLACE: ClassVar = "tool_choice"

    type: Literal["allowed_tools"] = Field(description="The kind of choice.")
    mode: Literal["auto", "required"] = Field(description="Whether one of them must be called.")
    tools: Annotated[list[NamedFunction], Field(min_length=1), FailFast(), FIRST_FAULTS] = Field(
        description="The functions, by name. The others are left out of the prompt."
    )


ChoiceWord = Literal["none", "auto", "required"]
_WORDS = ("none", "auto", "required")


def _chosen(value: object, info: ValidationInfo) -> ChoiceWord | NamedFunction | AllowedTools:
    if isinstance(value, NamedFunction | AllowedTools) or (isinstance(value, str) and value in _WORDS):
        return value  # type: ignore[return-value]
    kind = value.get("type") if isinstance(value, Mapping) else None
    if kind is None:
        refuse_invalid("must be 'none', 'auto', 'required' or an object with a type")
    if kind not in ("function", "allowed_tools"):
        refuse_unsupported(f"choices of type {str(kind)[:40]!r} are not supported", "type")
    chosen: type[Any] = NamedFunction if kind == "function" else AllowedTools
    return chosen.model_validate(value, context=info.context)  # type: ignore[no-any-return]


Chosen = ChoiceWord | NamedFunction | AllowedTools
ToolChoice = Annotated[Chosen, PlainValidator(_chosen, json_schema_input_type=Chosen)]

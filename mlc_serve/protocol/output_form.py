"""The fields by which a request says what form its output must have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from mlc_serve.protocol.fields import Text
from mlc_serve.protocol.refusals import refuse_invalid, refuse_unsupported
from mlc_serve.protocol.request_part import RequestPart, WithoutEffect

# Names by which other servers' clients send one of the fields of `structured_outputs`.
OTHER_NAMES = {
    "guided_json": "json",
    "guided_regex": "regex",
    "guided_choice": "choice",
    "guided_grammar": "grammar",
    "json_schema": "json",
    "regex": "regex",
    "grammar": "grammar",
    "ebnf": "grammar",
}

_ALWAYS_STRICT = WithoutEffect("the output always follows the schema")


def _as_schema(value: object) -> object:
    """Accept a schema as an object, as true or false, or as the JSON text of one."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            refuse_invalid("is a string, but not the JSON text of a schema")
    if not isinstance(value, dict | bool):
        refuse_invalid("must be a JSON schema")
    return value


Schema = Annotated[
    dict[str, Any] | bool, BeforeValidator(_as_schema, json_schema_input_type=dict[str, Any] | str)
]


class JsonSchemaFormat(RequestPart):
    """A named JSON schema."""

    PLACE: ClassVar = "response_format.json_schema"
    WITHOUT_EFFECT: ClassVar = {
        "name": WithoutEffect("the output follows the schema alone"),
        "description": WithoutEffect("the prompt can describe the output"),
        "strict": _ALWAYS_STRICT,
    }

    schema_: Schema = Field(alias="schema", description="The JSON schema that the output follows.")


class ResponseFormat(RequestPart):
    """The form of the reply."""

    PLACE: ClassVar = "response_format"
    WITHOUT_EFFECT: ClassVar = {"strict": _ALWAYS_STRICT}

    type: Literal["text", "json_object", "json_schema"] = Field(
        description="With `json_object` the output is a JSON object; with `json_schema` it follows a schema."
    )
    json_schema: JsonSchemaFormat | None = Field(default=None, description="For `json_schema`; see below.")
    schema_: Schema | None = Field(
        default=None, alias="schema", description="A JSON schema, or its JSON text; for `json_object`."
    )

    @model_validator(mode="before")
    @classmethod
    def _supported_type(cls, data: Any) -> Any:
        kind = data.get("type") if isinstance(data, Mapping) else None
        if kind in ("structural_tag", "grammar", "regex"):
            refuse_unsupported(f"type {kind!r} is not supported; send structured_outputs instead")
        return data

    @model_validator(mode="after")
    def _fields_fit_the_type(self) -> ResponseFormat:
        if self.type == "json_schema" and self.json_schema is None:
            refuse_invalid("is missing", "json_schema")
        if self.type != "json_schema" and self.json_schema is not None:
            refuse_invalid(f"is not allowed with type {self.type!r}", "json_schema")
        if self.type != "json_object" and self.schema_ is not None:
            refuse_invalid(f"is not allowed with type {self.type!r}", "schema")
        return self


class StructuredOutputs(RequestPart):
    """The form of the output in more notations, as vLLM's clients send it. Exactly one is given."""

    PLACE: ClassVar = "structured_outputs"
    WITHOUT_EFFECT: ClassVar = {
        "disable_any_whitespace": WithoutEffect(
            "JSON has a fixed layout unless `whitespace_pattern` is sent"
        ),
        "disable_fallback": WithoutEffect("there is nothing to fall back on"),
        "disable_additional_properties": WithoutEffect(
            "objects have the keys of their schema, and others only if it asks for them", only=(False,)
        ),
        "structural_tag": WithoutEffect("structural tags are not supported", only=()),
    }

    json_: Schema | None = Field(default=None, alias="json", description="A JSON schema, or its JSON text.")
    json_object: bool = Field(default=False, description="Any JSON object.")
    regex: Text | None = Field(
        default=None,
        description="A regular expression in the syntax of Rust, which describes the whole output.",
    )
    choice: Annotated[list[Text], Field(min_length=1)] | None = Field(
        default=None, description="The texts that the output may be."
    )
    grammar: Text | None = Field(default=None, description="A grammar in the notation of Lark, or of GBNF.")
    whitespace_pattern: Text | None = Field(
        default=None,
        description="A regular expression for what may stand between the parts of JSON. By default JSON is "
        "laid out as by Python's `json.dumps`, on one line.",
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> StructuredOutputs:
        given = [self.json_, self.json_object or None, self.regex, self.choice, self.grammar]
        if sum(form is not None for form in given) != 1:
            refuse_invalid("must have exactly one of json, json_object, regex, choice and grammar")
        return self


def with_structured_outputs(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Move fields with one of OTHER_NAMES into `structured_outputs`, which must not be given then."""
    others = {name: data[name] for name in OTHER_NAMES if data.get(name) is not None}
    if not others:
        return data
    name = next(iter(others))
    if len(others) > 1 or data.get("structured_outputs") is not None:
        refuse_invalid("can't be combined with another field for the form of the output", name)
    rest = {key: value for key, value in data.items() if key not in OTHER_NAMES}
    return {**rest, "structured_outputs": {OTHER_NAMES[name]: others[name]}}

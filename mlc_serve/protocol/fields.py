"""What all request types share: how unknown, absent and inert fields are treated, and the field types.

A field that a request type does not declare is refused by name. Two things are let through: null, which asks
for nothing, and the fields of INERT_FIELDS.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

MAX_STOP_STRINGS = 16


@dataclass(frozen=True)
class Inert:
    """Why a field changes nothing here; with `only`, the one value of it that doesn't."""

    reason: str
    only: object = None


INERT_FIELDS: Mapping[str, Inert] = {
    "user": Inert("names the client's end user; requests are told apart by ids of the server's own"),
    "safety_identifier": Inert("names the client's end user to a moderation that runs elsewhere"),
    "metadata": Inert("labels for a store of past completions; nothing is stored"),
    "store": Inert("whether to keep the completion for later; nothing is stored", only=False),
    "service_tier": Inert("chooses between price lists"),
    "prompt_cache_key": Inert("routes to a warm cache; there is one prefix cache, and it is always tried"),
    "prompt_cache_retention": Inert("how long a cached prefix is kept; the prefix cache decides by recency"),
    "parallel_tool_calls": Inert("a reply may always hold several calls", only=True),
    "modalities": Inert("the only output is text", only=["text"]),
}


def refuse_unsupported(message: str, field: str | None = None) -> NoReturn:
    """End validation with what becomes an UnsupportedFieldError; `field` adds to the checked path."""
    raise PydanticCustomError("unsupported", "{message}", _fault(message, field))


def refuse_invalid(message: str, field: str | None = None) -> NoReturn:
    """End validation with what becomes an InvalidRequestError; `field` adds to the checked path."""
    raise PydanticCustomError("invalid_value", "{message}", _fault(message, field))


def _fault(message: str, field: str | None) -> dict[str, str]:
    return {"message": message} if field is None else {"message": message, "field": field}


class RequestPart(BaseModel):
    """An object within a request: no conversion between types, no unknown fields, null is absent."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _nulls_are_absent(cls, data: Any) -> Any:
        if isinstance(data, BaseModel):
            data = data.model_dump()
        if not isinstance(data, Mapping):
            return data
        return {name: value for name, value in data.items() if value is not None}


class RequestBody(RequestPart):
    """A whole request: beside the rules of its parts, INERT_FIELDS are let through."""

    @model_validator(mode="before")
    @classmethod
    def _without_inert_fields(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        return {name: value for name, value in data.items() if not _is_inert(name, value)}


def _is_inert(name: object, value: object) -> bool:
    inert = INERT_FIELDS.get(name) if isinstance(name, str) else None
    return inert is not None and (inert.only is None or inert.only == value)


def _one_or_many(value: object) -> object:
    if isinstance(value, str):
        return [value]
    return list(value) if isinstance(value, tuple) else value


def _integer_keys(value: object) -> object:
    if not isinstance(value, Mapping):
        return value
    try:
        return {int(str(token_id)): bias for token_id, bias in value.items()}
    except ValueError:
        refuse_invalid("every key must be a token id, an integer")


def _unicode(text: str) -> str:
    """JSON can spell half of a surrogate pair, which no reply could carry."""
    try:
        text.encode()
    except UnicodeEncodeError:
        refuse_invalid("holds half of a surrogate pair, which is no text")
    return text


Text = Annotated[str, AfterValidator(_unicode)]
StopStrings = Annotated[
    list[Annotated[str, Field(min_length=1)]],
    Field(max_length=MAX_STOP_STRINGS),
    BeforeValidator(_one_or_many, json_schema_input_type=str | list[str]),
]
LogitBias = Annotated[dict[int, Annotated[float, Field(ge=-100, le=100)]], BeforeValidator(_integer_keys)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
TokenId = Annotated[int, Field(ge=0)]

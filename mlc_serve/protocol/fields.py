"""The types of request fields: which values they allow, and which other forms of a value they accept.

A value with only one possible meaning is accepted: `16.0` as the integer 16, `""` as no stop string.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, FailFast, Field, PlainValidator

from mlc_serve.protocol.first_faults import FIRST_FAULTS
from mlc_serve.protocol.refusals import refuse_invalid

MAX_STOP_STRINGS = 16
MAX_BIAS = 100
# Any share this small keeps only the likeliest token. It replaces 0, which samplers then need not handle.
_LEAST_TOP_P = 1e-6


def _as_integer(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _as_limit(value: object) -> object:
    """Accept -1, by which some clients mean that there is no limit."""
    return None if value == -1 and not isinstance(value, bool) else _as_integer(value)


def _as_stop_strings(value: object) -> object:
    """Accept one string or several. Empty ones, which would stop before the first token, are dropped."""
    strings = [value] if isinstance(value, str) else value
    return [each for each in strings if each != ""] if isinstance(strings, list | tuple) else strings


def _as_share(value: object) -> object:
    return _LEAST_TOP_P if value == 0 and not isinstance(value, bool) else value


def _as_object(value: object) -> object:
    """Accept an empty list, since PHP writes an empty object as one."""
    return {} if value == [] else value


def _as_bias(given: object) -> dict[int, float]:
    """Convert JSON's string keys to ids, and check all values, since pydantic would block other threads."""
    value = _as_object(given)
    if not isinstance(value, Mapping):
        refuse_invalid("must be an object that maps token ids to what is added to their logits")
    return {_as_token_id(key): _as_logit(bias) for key, bias in value.items()}


def _as_token_id(key: object) -> int:
    try:
        return int(str(key))
    except ValueError:
        refuse_invalid("every key must be a token id, an integer")


def _as_logit(bias: object) -> float:
    if type(bias) not in (int, float) or not -MAX_BIAS <= bias <= MAX_BIAS:  # type: ignore[operator]
        refuse_invalid(f"every value must be a number from -{MAX_BIAS} to {MAX_BIAS}")
    return float(bias)  # type: ignore[arg-type]


def are_token_ids(items: list[Any] | tuple[Any, ...]) -> bool:
    """Whether a list has integers alone, and at least one."""
    return bool(items) and all(type(item) is int for item in items)


def _unicode(text: str) -> str:
    """Refuse half of a surrogate pair, which JSON can express but no reply can contain."""
    try:
        text.encode()
    except UnicodeEncodeError:
        refuse_invalid("contains half of a surrogate pair, which is not valid text")
    return text


Text = Annotated[str, AfterValidator(_unicode)]
AsInteger = BeforeValidator(_as_integer)
Integer = Annotated[int, AsInteger]
# A number of tokens; None means as many as fit.
TokenLimit = Annotated[
    int | None,
    Field(ge=0),
    BeforeValidator(_as_limit, json_schema_input_type=Annotated[int, Field(ge=-1)] | None),
]
StopStrings = Annotated[
    list[Annotated[str, Field(min_length=1)]],
    Field(max_length=MAX_STOP_STRINGS),
    FailFast(),
    FIRST_FAULTS,
    BeforeValidator(_as_stop_strings, json_schema_input_type=str | list[str]),
]
LogitBias = Annotated[dict[int, float], PlainValidator(_as_bias, json_schema_input_type=dict[str, float])]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Share = Annotated[
    float,
    Field(gt=0, le=1),
    BeforeValidator(_as_share, json_schema_input_type=Annotated[float, Field(ge=0, le=1)]),
]
TokenIds = Annotated[list[Annotated[int, Field(ge=0), AsInteger]], FailFast(), FIRST_FAULTS]
JsonObject = Annotated[dict[str, Any], BeforeValidator(_as_object, json_schema_input_type=dict[str, Any])]

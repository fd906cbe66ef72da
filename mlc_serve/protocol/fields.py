"""The types of request fields: what they admit, and the forms of one value that clients send.

A value that can mean one thing only is taken for it: `16.0` for the integer 16, `""` for no stop string.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, FailFast, Field, PlainValidator

from mlc_serve.protocol.first_faults import FIRST_FAULTS
from mlc_serve.protocol.refusals import refuse_invalid

MAX_STOP_STRINGS = 16
MAX_BIAS = 100
# The likeliest token alone is kept by any share this small, and 0 is none that a sampler need know of.
_LEAST_TOP_P = 1e-6


def _as_integer(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _as_limit(value: object) -> object:
    """-1 is how some clients write that there is no limit."""
    return None if value == -1 and not isinstance(value, bool) else _as_integer(value)


def _as_stop_strings(value: object) -> object:
    """One string, or several; an empty one would stop before the first token, which nobody means."""
    strings = [value] if isinstance(value, str) else value
    return [each for each in strings if each != ""] if isinstance(strings, list | tuple) else strings


def _as_share(value: object) -> object:
    return _LEAST_TOP_P if value == 0 and not isinstance(value, bool) else value


def _as_object(value: object) -> object:
    """PHP writes an empty object as an empty list."""
    return {} if value == [] else value


def _as_bias(given: object) -> dict[int, float]:
    """JSON has string keys. Checked here and not by pydantic, which would not let other threads run."""
    value = _as_object(given)
    if not isinstance(value, Mapping):
        refuse_invalid("must be an object: token ids and what is added to their logits")
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


def _unicode(text: str) -> str:
    """JSON can spell half of a surrogate pair, which no reply could carry."""
    try:
        text.encode()
    except UnicodeEncodeError:
        refuse_invalid("holds half of a surrogate pair, which is no text")
    return text


Text = Annotated[str, AfterValidator(_unicode)]
AsInteger = BeforeValidator(_as_integer)
Integer = Annotated[int, AsInteger]
# A number of tokens; None is as many as fit.
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

"""Finds tool calls in a JSON value, in all forms that models write. Pure functions.

    {"name": "f", "arguments": {...}}           the form that Hermes and Qwen2.5 were trained on
    {"name": "f", "parameters": {...}}          Llama 3's
    {"type": "function", "function": {...}}     OpenAI's, with one of the above inside
    [...]                                       a list of them

Arguments may be JSON inside a string.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ToolCall:
    """A function to call; `arguments` is a JSON object as text."""

    name: str
    arguments: str


def _finite(number: str) -> float | None:
    """Return the number, or None (JSON's null, as in JavaScript) if it is beyond a double's range."""
    value = float(number)
    return value if math.isfinite(value) else None


def _no_number(_: str) -> None:
    """Return None, since NaN and the infinities are not JSON."""


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_no_number, strict=False)


def calls_in(written: str) -> list[ToolCall]:
    """Return the calls in one JSON value; an empty list if any part of it is not a call."""
    try:
        value = _DECODER.decode(written)
    except (ValueError, RecursionError):
        return []
    calls = [_call_in(item) for item in (value if isinstance(value, list) else [value])]
    whole = [call for call in calls if call is not None]
    return whole if len(whole) == len(calls) else []


def _call_in(value: Any) -> ToolCall | None:
    if not isinstance(value, dict):
        return None
    function = value.get("function")
    if isinstance(function, dict):
        value = {**value, **function}
    name = value.get("name", function)
    if not isinstance(name, str) or not name:
        return None
    try:
        arguments = _arguments_in(value)
        written = None if arguments is None else json.dumps(arguments, ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError):
        return None
    return None if written is None else ToolCall(_without_halves(name), _without_halves(written))


# Keys that a call without arguments may have. Any other key could be an argument in the wrong place.
_NO_ARGUMENTS = frozenset({"name", "arguments", "parameters", "function", "type", "id", "index"})


def _arguments_in(call: dict[str, Any]) -> dict[str, Any] | None:
    """Return a call's arguments. If they are not an object, returns None or raises ValueError."""
    given = next((call[key] for key in ("arguments", "parameters") if call.get(key) is not None), None)
    if isinstance(given, str):
        given = _DECODER.decode(given) if given.strip() else {}
    if given is None:
        return {} if call.keys() <= _NO_ARGUMENTS else None
    return given if isinstance(given, dict) else None


def _without_halves(text: str) -> str:
    """Replace halves of surrogate pairs, which are not valid Unicode, by U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

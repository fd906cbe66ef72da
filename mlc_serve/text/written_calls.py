"""Parses tool calls as models write them: JSON in one of several forms. Pure functions.

    {"name": "f", "arguments": {...}}           the form that Hermes and Qwen2.5 were trained on
    {"name": "f", "parameters": {...}}          Llama 3's
    {"type": "function", "function": {...}}     OpenAI's, with one of the above inside
    [...]                                       a list of them

Arguments may be JSON inside a string, and the whole may be in a code fence.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ToolCall:
    """A function to call; `arguments` is a JSON object as text."""

    name: str
    arguments: str


class UnfinishedCallError(ValueError):
    """The text ends where its JSON might go on."""


def read_calls(text: str) -> tuple[list[ToolCall], int]:
    """Return the calls at the beginning of a text, and how many of its characters they take.

    The list is empty if the text begins with anything else. White space, commas and semicolons may separate
    calls. Raises UnfinishedCallError if more text could complete a call at the beginning.
    """
    calls: list[ToolCall] = []
    end = 0
    start = _end_of(_BEFORE, text, 0)
    if len(text) - start < _LONGEST_WORD and not text.startswith(("{", "["), start):
        raise UnfinishedCallError
    while text.startswith(("{", "["), start):
        try:
            value, stop = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            if not calls and _is_unfinished(error, text):
                raise UnfinishedCallError from error
            break
        if not (found := _calls_in(value)):
            break
        calls += found
        end = stop
        start = _end_of(_BETWEEN, text, end)
    return calls, end


_BEFORE = re.compile(r"\s*(?:```\w*\s*)?")
_BETWEEN = re.compile(r"[\s,;]*")

# The length of the longest word in JSON, `-Infinity`: an error this near to the end may be half a word.
_LONGEST_WORD = 9


def _end_of(pattern: re.Pattern[str], text: str, start: int) -> int:
    found = pattern.match(text, start)
    return start if found is None else found.end()


def _is_unfinished(error: Exception, text: str) -> bool:
    return isinstance(error, json.JSONDecodeError) and (
        error.msg.startswith("Unterminated string") or error.pos + _LONGEST_WORD > len(text)
    )


def _finite(number: str) -> float | None:
    """Return the number, or None (JSON's null, as in JavaScript) if it is beyond a double's range."""
    value = float(number)
    return value if math.isfinite(value) else None


def _no_number(_: str) -> None:
    """Return None, since NaN and the infinities are not JSON."""


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_no_number, strict=False)


def _calls_in(value: Any) -> list[ToolCall]:
    """Return the calls in one JSON value; an empty list if any part of it is not a call."""
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

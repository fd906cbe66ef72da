"""Parses JSON from untrusted clients: within limits that are checked first, and without blocking other
threads.

`json.loads` lets no other thread run until it is done, and a parsed value may take forty times the memory of
its text. Therefore the elements of a text are counted before it is parsed, and a text with many is parsed by
the standard library's scanner in Python, which is slower but lets other threads run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from json import scanner

from mlc_serve.config import ServerConfig
from mlc_serve.errors import InvalidRequestError

# A list or an object takes about as much memory as this many numbers.
CONTAINER_WEIGHT = 10
# `json.loads` takes less than 20 ms for this many elements, and the event loop may be held for 50.
_PARSED_AT_ONCE = 20_000
# Counting this many bytes takes less than 5 ms, whatever they are.
_SLICE = 64 * 1024
_PUNCTUATION = b'"\\[]{},'
_ALL_ELSE = bytes(byte for byte in range(256) if byte not in _PUNCTUATION)
_DEPTH_STEP = [(byte in b"[{") - (byte in b"]}") for byte in range(256)]


@dataclass(frozen=True)
class JsonLimits:
    """The most elements of a text, where a list or an object counts as ten, and the deepest nesting."""

    max_elements: int = ServerConfig.max_body_elements
    max_depth: int = ServerConfig.max_body_depth


def parse_json(text: bytes, limits: JsonLimits) -> object:
    """Parse a JSON text in UTF-8. Raises InvalidRequestError if it isn't one or exceeds the limits."""
    num_elements = count_elements(text, limits)
    decode = json.loads if num_elements <= _PARSED_AT_ONCE else _Interruptible().decode
    try:
        value: object = decode(text.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InvalidRequestError("The request body is not text in UTF-8.") from error
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise InvalidRequestError(f"The request body is not valid JSON: {error.msg} at {place}.") from error
    except ValueError as error:  # Python converts integers of up to 4300 digits
        raise InvalidRequestError("The request body contains an integer with too many digits.") from error
    if b"\\ud" in text or b"\\uD" in text:
        _require_whole_pairs(value)
    return value


def count_elements(text: bytes, limits: JsonLimits) -> int:
    """Count the elements of a text, valid JSON or not. Raises InvalidRequestError if it exceeds a limit."""
    num_elements = depth = 0
    for marks in _marks_outside_strings(text):
        num_containers = marks.count(b"[") + marks.count(b"{")
        num_elements += marks.count(b",") + num_containers * CONTAINER_WEIGHT
        if num_elements > limits.max_elements:
            raise InvalidRequestError(
                f"The request body has more than {limits.max_elements} elements, where a list or an object "
                f"counts as {CONTAINER_WEIGHT}."
            )
        depths = list(accumulate(map(_DEPTH_STEP.__getitem__, marks.translate(None, b",")), initial=depth))
        depth = depths[-1]
        if max(depths) > limits.max_depth:
            raise InvalidRequestError(f"The request body is nested more than {limits.max_depth} levels deep.")
    return num_elements


def _marks_outside_strings(text: bytes) -> Iterator[bytes]:
    """Yield the brackets and commas of a text outside its strings, slice by slice."""
    in_string, held = False, b""
    for start in range(0, len(text), _SLICE):
        piece = held + text[start : start + _SLICE]
        # A backslash and what it escapes stay together.
        is_cut = (len(piece) - len(piece.rstrip(b"\\"))) % 2 == 1
        piece, held = (piece[:-1], b"\\") if is_cut else (piece, b"")
        marks = piece.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _ALL_ELSE)
        parts = marks.split(b'"')
        yield b"".join(parts[in_string::2]).replace(b"\\", b"")
        in_string ^= len(parts) % 2 == 0


class _Interruptible(json.JSONDecoder):
    """Parses as `json.loads` does, but in Python, so that other threads can run meanwhile."""

    def __init__(self) -> None:
        super().__init__(object_pairs_hook=_object)
        self.scan_once = scanner.py_make_scanner(self)  # type: ignore[attr-defined]


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return the same as `dict(pairs)`, which lets no other thread run until it is done."""
    return {name: item for name, item in pairs}  # noqa: C416 - a loop lets them run


def _require_whole_pairs(value: object) -> None:
    """Raise InvalidRequestError if a string contains half of a surrogate pair, which no tokenizer accepts."""
    for text in _texts(value):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidRequestError(
                "The request body has a string with half of a surrogate pair, which is not valid text."
            ) from error


def _texts(value: object) -> Iterator[str]:
    """Yield all strings within a value, including keys."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield key
            yield from _texts(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _texts(entry)

"""Copies a JSON value out of a text that arrives in portions, in the layout of json.dumps.

What models write that is not quite JSON is repaired: control characters in strings are escaped, halves of
surrogate pairs become U+FFFD, and NaN, the infinities and numbers beyond a double's range become null.
"""

from __future__ import annotations

import json
import math
import re
from enum import Enum, auto

# Parsers of JSON have such limits, too.
MAX_DEPTH = 1000
_LONGEST_WORD = 400

_SPACE = re.compile(r"[ \t\r\n]*")
_PLAIN = re.compile(r'[^"\\\x00-\x1f]+')
_WORD = re.compile(r"[-+.\w]+", re.ASCII)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_WORDS = {"true": "true", "false": "false", "null": "null"} | dict.fromkeys(
    ["NaN", "Infinity", "-Infinity"], "null"
)
_CLOSERS = {"{": "}", "[": "]"}
_ESCAPED = dict(zip('"\\/bfnrt', '"\\/\b\f\n\r\t', strict=True))
_HALF = re.compile(r"\\u([0-9a-fA-F]{4})")
_FIRST_HALVES, _SECOND_HALVES = range(0xD800, 0xDC00), range(0xDC00, 0xE000)


class _Next(Enum):
    """What the value may go on with."""

    VALUE = auto()
    KEY = auto()
    COLON = auto()
    COMMA = auto()
    STRING = auto()


class JsonCopier:
    """Copies one object or list. When `is_whole`, the copies together are the value; when `is_broken`, the
    text is not JSON where the last copy ended.

    With `in_object` it begins behind a value of an object that was already opened.
    """

    def __init__(self, *, in_object: bool = False) -> None:
        self._closers = ["}"] if in_object else []
        self._next = _Next.COMMA if in_object else _Next.VALUE
        self._may_close = False  # right behind an opening bracket
        self._is_key = False
        self._copied: list[str] = []
        self.is_whole = False
        self.is_broken = False

    def copy(self, text: str, start: int, *, is_last: bool) -> tuple[str, int]:
        """Return a copy of the text from `start` on, and where it ends: after the value, before what breaks
        it, or before a word or an escape that may go on. White space between what is copied is skipped.
        """
        position: int | None = start
        while position is not None and not (self.is_whole or self.is_broken):
            if self._next is _Next.STRING:
                start = position
                position = self._string(text, start, is_last)
            else:
                start = _behind_space(text, position)
                position = self._structure(text, start, is_last)
        copied = "".join(self._copied)
        self._copied.clear()
        return copied, start if position is None else position

    def _structure(self, text: str, position: int, is_last: bool) -> int | None:
        """Copy one bracket, comma, colon, quote or word; None if there is no more text."""
        if position == len(text):
            return None
        character = text[position]
        if self._closes(character):
            self._close(character)
        elif character == '"' and self._next in (_Next.VALUE, _Next.KEY):
            self._copied.append('"')
            self._is_key, self._next = self._next is _Next.KEY, _Next.STRING
        elif character in _CLOSERS and self._next is _Next.VALUE and len(self._closers) < MAX_DEPTH:
            self._open(character)
            return position + 1
        elif character == ":" and self._next is _Next.COLON:
            self._write(": ", _Next.VALUE)
        elif character == "," and self._next is _Next.COMMA:
            self._write(", ", _Next.KEY if self._closers[-1] == "}" else _Next.VALUE)
        elif self._next is _Next.VALUE and self._closers:
            return self._word(text, position, is_last)
        else:
            return self._break(position)
        self._may_close = False
        return position + 1

    def _closes(self, character: str) -> bool:
        may_close = self._may_close or self._next is _Next.COMMA
        return may_close and bool(self._closers) and character == self._closers[-1]

    def _open(self, bracket: str) -> None:
        self._closers.append(_CLOSERS[bracket])
        self._write(bracket, _Next.KEY if bracket == "{" else _Next.VALUE)
        self._may_close = True

    def _close(self, bracket: str) -> None:
        self._closers.pop()
        self._write(bracket, _Next.COMMA)
        self.is_whole = not self._closers

    def _write(self, text: str, following: _Next) -> None:
        self._copied.append(text)
        self._next = following

    def _break(self, position: int) -> int:
        self.is_broken = True
        return position

    def _word(self, text: str, position: int, is_last: bool) -> int | None:
        """Copy a number or a word such as true."""
        found = _WORD.match(text, position)
        if found is None or len(found[0]) > _LONGEST_WORD:
            return self._break(position)
        if found.end() == len(text) and not is_last:
            return None
        written = _WORDS.get(found[0]) or _number(found[0])
        if written is None:
            return self._break(position)
        self._write(written, _Next.COMMA)
        self._may_close = False
        return found.end()

    def _string(self, text: str, position: int, is_last: bool) -> int | None:
        """Copy a run of plain characters, an escape, or the closing quote."""
        if position == len(text):
            return None
        if plain := _PLAIN.match(text, position):
            self._copied.append(plain[0])
            return plain.end()
        if text[position] == '"':
            self._write('"', _Next.COLON if self._is_key else _Next.COMMA)
            return position + 1
        if text[position] != "\\":
            self._copied.append(_escaped(text[position]))
            return position + 1
        return self._escape(text, position, is_last)

    def _escape(self, text: str, position: int, is_last: bool) -> int | None:
        letter = text[position + 1 : position + 2]
        if letter in _ESCAPED and letter:
            self._copied.append(_escaped(_ESCAPED[letter]))
            return position + 2
        if letter == "u" and len(text) < position + 6 and not is_last:
            return None
        first = _HALF.match(text, position)
        if first is None:
            return None if not (letter or is_last) else self._break(position)
        code = int(first[1], 16)
        if code in _FIRST_HALVES:
            return self._pair(text, first.end(), code, is_last)
        self._copied.append("\ufffd" if code in _SECOND_HALVES else _escaped(chr(code)))
        return first.end()

    def _pair(self, text: str, position: int, first: int, is_last: bool) -> int | None:
        """Copy the character of which the first half ends at `position`."""
        following = text[position : position + 6]
        if not is_last and len(following) < 6 and "\\u".startswith(following[:2]):
            return None
        second = _HALF.match(following)
        code = 0 if second is None else int(second[1], 16)
        if code not in _SECOND_HALVES:
            self._copied.append("\ufffd")
            return position
        self._copied.append(chr(0x10000 + ((first - 0xD800) << 10) + (code - 0xDC00)))
        return position + 6


def _behind_space(text: str, position: int) -> int:
    space = _SPACE.match(text, position)
    return position if space is None else space.end()


def _escaped(character: str) -> str:
    return json.dumps(character, ensure_ascii=False)[1:-1]


def _number(word: str) -> str | None:
    """Return a number as JSON, or None if it is no number."""
    found = _NUMBER.fullmatch(word)
    if found is None:
        return None
    is_integer = found[1] is None and found[2] is None
    return word if is_integer or math.isfinite(float(word)) else "null"

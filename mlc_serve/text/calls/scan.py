"""Scans the beginning of a text that may still grow: a header of known shape before a call's arguments."""

from __future__ import annotations

import json
import re

# A header is scanned again whenever text arrives, so its parts must be short.
_LONGEST_NAME = 256
_LONGEST_SPACE = 256

_SPACE = re.compile(r"\s*")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)


class MismatchError(ValueError):
    """The text has another shape, whatever follows."""


class UnfinishedError(ValueError):
    """The text ends where the shape might go on."""


class Scan:
    """A position in a text. Each method moves it behind what it names, or raises one of the two errors."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.position = 0

    def word(self, expected: str) -> None:
        """Exactly this text."""
        self.ahead(expected)
        self.position += len(expected)

    def ahead(self, *expected: str) -> str:
        """Return which of these texts follows, and stay before it."""
        rest = self._text[self.position : self.position + max(map(len, expected))]
        for text in expected:
            if rest.startswith(text):
                return text
        raise UnfinishedError if any(text.startswith(rest) for text in expected) else MismatchError

    def is_before(self, expected: str) -> bool:
        """Return whether this text follows, and stay before it."""
        try:
            self.ahead(expected)
        except MismatchError:
            return False
        return True

    def option(self, expected: str) -> bool:
        """Return whether this text follows."""
        found = self.is_before(expected)
        self.position += len(expected) if found else 0
        return found

    def space(self, pattern: re.Pattern[str] = _SPACE) -> None:
        """White space, or whatever the pattern says instead; it may be empty."""
        end = self._end_of(pattern)
        if end - self.position > _LONGEST_SPACE:
            raise MismatchError
        self.position = end

    def name(self, pattern: re.Pattern[str]) -> str:
        """Return a name, which something else must follow. The pattern matches its characters."""
        end = self._end_of(pattern)
        if end == self.position < len(self._text) or end - self.position > _LONGEST_NAME:
            raise MismatchError
        if end == len(self._text):
            raise UnfinishedError
        name, self.position = self._text[self.position : end], end
        return name

    def json_string(self) -> str:
        """Return the value of a JSON string."""
        self.ahead('"')
        found = _STRING.match(self._text, self.position)
        end = len(self._text) if found is None else found.end()
        if end - self.position > _LONGEST_NAME:
            raise MismatchError
        if found is None:
            raise UnfinishedError
        self.position = found.end()
        try:
            value: str = json.loads(found[0], strict=False)
        except ValueError as error:
            raise MismatchError from error
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

    def _end_of(self, pattern: re.Pattern[str]) -> int:
        found = pattern.match(self._text, self.position)
        return self.position if found is None else found.end()

"""Ends a growing text where one of its stop strings is complete. One object for one text; owned by whoever
streams it.
"""

from __future__ import annotations

from collections.abc import Iterable

from mlc_serve.errors import InvalidRequestError


class StopStrings:
    """Releases a text up to its first stop string, in whatever portions the text comes.

    First is the one that is complete first; of several that end at the same character, the longest. Held back
    is just the longest end of the text that a stop string begins with. InvalidRequestError for an empty stop
    string.
    """

    def __init__(self, stops: Iterable[str]) -> None:
        self._matchers = [_Matcher(stop) for stop in dict.fromkeys(stops)]
        self._beginnings = frozenset(matcher.stop[0] for matcher in self._matchers)
        self._held = ""
        self._matched = False

    def push(self, text: str) -> tuple[str, bool]:
        """The text that is safe to show now, and whether a stop string has ended it; later text is dropped
        then.
        """
        if self._matched:
            return "", True
        if not self._held and self._beginnings.isdisjoint(text):
            return text, False
        held = self._held + text
        for position, character in enumerate(text, start=len(self._held) + 1):
            completed = [len(matcher.stop) for matcher in self._matchers if matcher.advance(character)]
            if completed:
                self._matched = True
                self._held = ""
                return held[: position - max(completed)], True
        num_held = max((matcher.length for matcher in self._matchers), default=0)
        released = len(held) - num_held
        self._held = held[released:]
        return held[:released], False

    def finish(self) -> str:
        """The text still held back, which turned out to be no stop string."""
        held, self._held = self._held, ""
        return held


class _Matcher:
    """Knuth, Morris and Pratt's search for one stop string: `length` of its characters match the end of the
    text so far.

    `_fallback[k]` is the longest proper prefix of the stop string that is also a suffix of its first k + 1
    characters.
    """

    def __init__(self, stop: str) -> None:
        if not stop:
            raise InvalidRequestError("a stop string is empty", param="stop")
        self.stop = stop
        self.length = 0
        self._fallback = [0] * len(stop)
        for i in range(1, len(stop)):
            self._fallback[i] = self._extended(self._fallback[i - 1], stop[i])

    def advance(self, character: str) -> bool:
        """Take the text's next character; True if the stop string is now complete, which ends the search."""
        self.length = self._extended(self.length, character)
        return self.length == len(self.stop)

    def _extended(self, length: int, character: str) -> int:
        while length and self.stop[length] != character:
            length = self._fallback[length - 1]
        return length + (self.stop[length] == character)

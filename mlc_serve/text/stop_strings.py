"""Ends a growing text where one of a request's stop strings is complete."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from mlc_serve.errors import InvalidRequestError


class StopStrings:
    """The stop strings of one request, which all its choices share, with their search tables.

    A table grows only as far as a text has matched its stop string, so that a long one costs nothing by
    itself. With `are_shown` the text ends after the stop string rather than before it. Raises
    InvalidRequestError for an empty stop string.
    """

    def __init__(self, stops: Iterable[str], *, are_shown: bool = False) -> None:
        self.are_shown = are_shown
        self.patterns = [_Pattern(stop) for stop in dict.fromkeys(stops)]
        self.beginnings = frozenset(pattern.text[0] for pattern in self.patterns)
        self._mentioned: dict[str, bool] = {}

    def mention(self, text: str) -> bool:
        """Return whether any stop string contains this text. Caches the answer, since strings may be long."""
        if text not in self._mentioned:
            self._mentioned[text] = any(text in pattern.text for pattern in self.patterns)
        return self._mentioned[text]


class StopSearch:
    """Releases a text, which may arrive in any portions, up to or including its first stop string.

    The first stop string is the one that is complete first; if several end at the same character, the
    longest. Only the longest suffix of the text that could begin a stop string is held back. There is one
    object for each text, owned by the code that streams it.
    """

    def __init__(self, stops: StopStrings) -> None:
        self._stops = stops
        self._num_matched = [0] * len(stops.patterns)
        self._held: deque[tuple[str, bool]] = deque()  # portions, and whether they are shown
        self._num_held = 0
        self.found: str | None = None  # the stop string that has ended the text

    def push(self, text: str) -> tuple[str, bool]:
        """Return the text that can be shown now, and whether a stop string ended it; the rest is dropped."""
        return self._push(text, is_shown=True)

    def push_hidden(self, text: str) -> tuple[str, bool]:
        """Push the name of a special token, which is matched but never shown.

        A name that no stop string contains is skipped: the text before it and the text after it are then
        adjacent.
        """
        return self._push(text if self._stops.mention(text) else "", is_shown=False)

    def finish(self) -> str:
        """Return the text that is still held back and turned out not to be a stop string."""
        return self._release(self._num_held)

    def _push(self, text: str, is_shown: bool) -> tuple[str, bool]:
        if self.found is not None or not text:
            return "", self.found is not None
        if not self._held and self._stops.beginnings.isdisjoint(text):
            return text if is_shown else "", False
        self._held.append((text, is_shown))
        for character in text:
            self._num_held += 1
            if stop := self._advance(character):
                return self._end(stop, self._num_held - (0 if self._stops.are_shown else len(stop))), True
        return self._release(self._num_held - max(self._num_matched)), False

    def _advance(self, character: str) -> str:
        """Match the next character. Return the longest stop string that it completes, or ""."""
        completed = ""
        for i, pattern in enumerate(self._stops.patterns):
            matched = self._num_matched[i] = pattern.extended(self._num_matched[i], character)
            if matched == len(pattern.text):
                completed = max(completed, pattern.text, key=len)
        return completed

    def _end(self, stop: str, num_released: int) -> str:
        released = self._release(num_released)
        self.found = stop
        self._num_held = 0
        self._held.clear()
        return released

    def _release(self, count: int) -> str:
        """Take `count` characters off the held portions, and return those of them that are shown."""
        self._num_held -= count
        shown = []
        while count:
            text, is_shown = self._held.popleft()
            if is_shown:
                shown.append(text[:count])
            if len(text) > count:
                self._held.appendleft((text[count:], is_shown))
            count -= min(count, len(text))
        return "".join(shown)


class _Pattern:
    """The Knuth-Morris-Pratt table of one stop string, as far as a text has matched it.

    `_borders[k]` is the length of the longest proper prefix of the stop string that is also a suffix of its
    first k characters.
    """

    def __init__(self, text: str) -> None:
        if not text:
            raise InvalidRequestError("a stop string is empty", param="stop")
        self.text = text
        self._borders = [0, 0]

    def extended(self, matched: int, character: str) -> int:
        """Return how many characters of the stop string match the end of a text after one more character.

        `matched` is their number before it, which is less than the stop string's length.
        """
        matched = self._continued(matched, character)
        if matched == len(self._borders):  # one more than the table holds
            self._borders.append(self._continued(self._borders[-1], character))
        return matched

    def _continued(self, matched: int, character: str) -> int:
        while matched and self.text[matched] != character:
            matched = self._borders[matched]
        return matched + (self.text[matched] == character)

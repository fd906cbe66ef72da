"""Searches and changes long texts without blocking other threads.

Python's own calls for this hold the GIL until they are done, and some take a quarter of a second for a text
of megabytes. Here each call gets a slice of the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator

# Characters that the slowest of these calls handles in about 3 ms.
_SLICE = 2**14


class TextSearch:
    """Finds the sought texts. Where one of them begins with another, the longer one is found."""

    def __init__(self, sought: Collection[str]) -> None:
        longest_first = sorted(sought, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self._longest = len(longest_first[0]) if longest_first else 1

    def is_in(self, text: str) -> bool:
        """Return whether the text contains any of them."""
        return next(self._found_in(text), None) is not None

    def split(self, text: str) -> list[str]:
        """Split the text at what is found: odd indices hold the matches, even ones the text between."""
        parts, end = [], 0
        for found in self._found_in(text):
            parts += [text[end : found.start()], found[0]]
            end = found.end()
        return [*parts, text[end:]]

    def replace(self, text: str, change: Callable[[str], str]) -> str:
        """Return the text with `change` applied to everything that is found."""
        parts = self.split(text)
        parts[1::2] = map(change, parts[1::2])
        return "".join(parts)

    def _found_in(self, text: str) -> Iterator[re.Match[str]]:
        """Yield the matches from left to right, without overlaps."""
        start = 0
        for end in range(_SLICE, len(text) + _SLICE, _SLICE):
            # A match that begins in this slice may end in the next.
            for found in self._pattern.finditer(text, start, end + self._longest - 1):
                if found.start() >= end:
                    break
                start = found.end()
                yield found
            start = max(start, end)


def change_characters(text: str, change: Callable[[str], str]) -> str:
    """Apply a change that looks at each character by itself, one slice of the text at a time."""
    return "".join(change(text[start : start + _SLICE]) for start in range(0, len(text), _SLICE))

"""Searching and changing long texts so that other threads get their turns.

Python's own calls for this let no other thread run until they are done, and a text of megabytes takes some
of them a quarter of a second. Here each call sees a slice of the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator

# Characters with which the slowest of these calls is done in less than 10 ms.
_SLICE = 2**16


class TextSearch:
    """Finds any of some texts, a longer one rather than the beginning of it; nothing if there are none."""

    def __init__(self, sought: Collection[str]) -> None:
        longest_first = sorted(sought, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self._longest = len(longest_first[0]) if longest_first else 1

    def is_in(self, text: str) -> bool:
        """Whether there is one."""
        return next(self._found_in(text), None) is not None

    def split(self, text: str) -> list[str]:
        """What stands between those that are found, and these in the odd places."""
        parts, end = [], 0
        for found in self._found_in(text):
            parts += [text[end : found.start()], found[0]]
            end = found.end()
        return [*parts, text[end:]]

    def replace(self, text: str, change: Callable[[str], str]) -> str:
        """The text with what is found changed."""
        parts = self.split(text)
        parts[1::2] = map(change, parts[1::2])
        return "".join(parts)

    def _found_in(self, text: str) -> Iterator[re.Match[str]]:
        """From left to right, none within another."""
        start = 0
        for end in range(_SLICE, len(text) + _SLICE, _SLICE):
            # One that begins in this slice may end in the next.
            for found in self._pattern.finditer(text, start, end + self._longest - 1):
                if found.start() >= end:
                    break
                start = found.end()
                yield found
            start = max(start, end)


def change_characters(text: str, change: Callable[[str], str]) -> str:
    """The text after a change to which a character's neighbours make no difference."""
    return "".join(change(text[start : start + _SLICE]) for start in range(0, len(text), _SLICE))

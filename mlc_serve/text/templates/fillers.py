"""Private characters in the place of every letter of one client's texts, so that no part of a text can become
a part of a name of a control token.

Each key of the client's JSON has letters of its own, so that two keys stay two, and a text that repeats a key
stays the same as the key. All other texts have one letter everywhere. Literals of the template, for which it
may look in a text, stay as they are.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable
from functools import partial

from mlc_serve.text.text_search import TextSearch, change_characters

_NO_SPACE = re.compile(r"\S")
# With so many characters, keys of more than so many letters never run out of letters of their own.
_FEWEST = 16
_LONG = 8


class Fillers:
    """`characters` are free ones, as many as `num_fillers` says. `kept` finds what stays in a text."""

    def __init__(self, characters: Collection[str], kept: TextSearch, keys: Iterable[str]) -> None:
        self._characters = list(characters)
        self._kept = kept
        self._numbers: dict[str, int] = {}
        used: Counter[str] = Counter()
        for key in dict.fromkeys(keys):
            shape = self._filled(key, 0)
            used[shape] += 1
            self._numbers[key] = used[shape]

    def fill(self, text: str) -> str:
        """The text with fillers for its letters."""
        return self._filled(text, self._numbers.get(text, 0))

    def _filled(self, text: str, number: int) -> str:
        """Number 0 has the first filler everywhere; others are written in digits, the last digit first."""
        parts = self._kept.split(text)
        for i in range(0, len(parts), 2):
            if number:
                parts[i], number = self._in_digits(parts[i], number)
            else:
                parts[i] = change_characters(parts[i], partial(_NO_SPACE.sub, self._characters[0]))
        return "".join(parts)

    def _in_digits(self, text: str, number: int) -> tuple[str, int]:
        """The text with digits for its letters, and what is left of the number."""
        letters = list(text)
        for position, letter in enumerate(letters):
            if not letter.isspace():
                number, digit = divmod(number, len(self._characters))
                letters[position] = self._characters[digit]
        return "".join(letters), number


def num_fillers(texts: Iterable[str], kept: TextSearch) -> int:
    """How many characters it takes for all short texts to differ, in case they are keys."""
    short = {text for text in texts if len(text) <= _LONG}
    counts = Counter(sum(len(_NO_SPACE.findall(part)) for part in kept.split(text)[::2]) for text in short)
    return max(
        [_FEWEST, *(_root(count + 1, num_letters) for num_letters, count in counts.items() if num_letters)]
    )


def _root(number: int, degree: int) -> int:
    """The least integer whose power of that degree is at least the number."""
    root = 1
    while root**degree < number:
        root += 1
    return root

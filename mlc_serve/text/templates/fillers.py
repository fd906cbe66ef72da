"""Replaces every letter of a client's texts by private-use characters, the fillers, so that no part of a text
can become part of a control token's name.

Each key of the client's JSON gets different fillers, so that different keys stay different, and a text that
equals a key still does. In all other texts, every letter becomes the same filler. Literals of the template,
which it may search for in a text, stay as they are.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable
from functools import partial

from mlc_serve.text.text_search import TextSearch, change_characters

_NO_SPACE = re.compile(r"\S")
# With at least _FEWEST characters, there are always enough different fillers for keys of more than _LONG
# letters.
_FEWEST = 16
_LONG = 8


class Fillers:
    """`characters` are as many free characters as `num_fillers` says. `kept` finds what stays in a text."""

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
        """Return the text with fillers for its letters."""
        return self._filled(text, self._numbers.get(text, 0))

    def _filled(self, text: str, number: int) -> str:
        """Fill a text with the first filler for number 0, and otherwise with the number's digits, for which
        fillers stand. The last digit comes first.
        """
        parts = self._kept.split(text)
        for i in range(0, len(parts), 2):
            if number:
                parts[i], number = self._in_digits(parts[i], number)
            else:
                parts[i] = change_characters(parts[i], partial(_NO_SPACE.sub, self._characters[0]))
        return "".join(parts)

    def _in_digits(self, text: str, number: int) -> tuple[str, int]:
        """Return the text with digits for its letters, and what is left of the number."""
        letters = list(text)
        for position, letter in enumerate(letters):
            if not letter.isspace():
                number, digit = divmod(number, len(self._characters))
                letters[position] = self._characters[digit]
        return "".join(letters), number


def num_fillers(texts: Iterable[str], kept: TextSearch) -> int:
    """Return how many characters are needed so that all short texts can differ, in case they are keys."""
    short = {text for text in texts if len(text) <= _LONG}
    counts = Counter(sum(len(_NO_SPACE.findall(part)) for part in kept.split(text)[::2]) for text in short)
    return max(
        [_FEWEST, *(_root(count + 1, num_letters) for num_letters, count in counts.items() if num_letters)]
    )


def _root(number: int, degree: int) -> int:
    """Return the least integer that, to the power of `degree`, is at least `number`."""
    root = 1
    while root**degree < number:
        root += 1
    return root

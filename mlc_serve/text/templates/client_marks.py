"""Marks in what a client wrote, for chat templates that put the names of control tokens together from halves
(`"<|" + role + "|>"`): a name in the prompt is the template's own if no mark breaks it.

The first and the last letters of names are marked, wherever they stand, and whole texts that could be the
middle of a name. A filler does more: it stands for every letter, so that no part of the text can be a part of
a name. It shows which names are the template's own if the template goes the same way with it.

Literals of the template, for which it may look in the text, stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import partial
from typing import Any

from mlc_serve.text.json_texts import map_texts
from mlc_serve.text.text_search import TextSearch, change_characters

# Shorter literals are found everywhere, `<` for one.
_SHORTEST_LITERAL = 3
_NO_SPACE = re.compile(r"\S")
# Words that a client can't choose, by their key.
_FIXED = {"role": {"system", "user", "assistant", "tool"}, "type": {"text", "function"}}


class ClientMarks:
    """Marks and fillers for the names that a template puts together. Both are chosen for each prompt."""

    def __init__(self, names: Collection[str], literals: Collection[str]) -> None:
        self._inside = "\0".join(names)
        self._firsts = {name[0] for name in names}
        self._lasts = {name[-1] for name in names}
        kept = [text for text in literals if len(text) >= _SHORTEST_LITERAL and text not in self._inside]
        self._places = TextSearch({*kept, *self._firsts, *self._lasts})
        letters = set("".join(names).casefold())
        harmless = [text for text in literals if letters.isdisjoint(text.casefold())]
        self._kept = TextSearch({*kept, *harmless})

    def put_into(self, written: Any, mark: str) -> Any:
        """Nested dicts and lists with their texts marked."""
        return map_texts(written, partial(self._marked, mark))

    def fill(self, written: Any, mark: str, filler: str) -> Any:
        """The same with fillers in all texts but keys, which have marks, since templates ask for keys."""
        return map_texts(written, partial(self._filled, mark, filler))

    def _filled(self, mark: str, filler: str, key: str | None, text: str) -> str:
        if key is None or _is_fixed(key, text):
            return self._marked(mark, key, text)
        parts = self._kept.split(text)
        parts[::2] = [change_characters(part, partial(_NO_SPACE.sub, filler)) for part in parts[::2]]
        return "".join(parts)

    def _marked(self, mark: str, key: str | None, text: str) -> str:
        if key is not None and _is_fixed(key, text):
            return text
        marked = self._places.replace(text, partial(self._marked_place, mark))
        core = text.strip()
        if key is None or not core or core not in self._inside:
            return marked
        start, end = len(text) - len(text.lstrip()), len(text.rstrip()) - len(text)
        return text[:start] + mark + marked.strip() + mark + (text[end:] if end else "")

    def _marked_place(self, mark: str, found: str) -> str:
        before = mark if found in self._lasts else ""
        after = mark if found in self._firsts else ""
        return before + found + after


def _is_fixed(key: str, text: str) -> bool:
    return text in _FIXED.get(key, ())

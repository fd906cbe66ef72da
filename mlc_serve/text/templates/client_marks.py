"""Puts marks into a client's texts, for chat templates that compose the names of control tokens from parts
(`"<|" + role + "|>"`): a name in the prompt is the template's own if no mark interrupts it.

Marks are put next to the first and last letters of names, wherever these occur, and around whole texts that
could be the middle of a name. A filler goes further: it replaces every letter, so that no part of the text
can be a part of a name. If the template writes the same prompt with fillers, all names in that prompt are its
own.

The template's literals, which it may search for in a text, stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import partial
from typing import Any

from mlc_serve.text.json_texts import map_texts
from mlc_serve.text.text_search import TextSearch, change_characters

# Shorter literals, such as `<`, occur everywhere.
_SHORTEST_LITERAL = 3
_NO_SPACE = re.compile(r"\S")
# Values that come from a fixed set, by their key.
_FIXED = {"role": {"system", "user", "assistant", "tool"}, "type": {"text", "function"}}


class ClientMarks:
    """Puts marks and fillers into texts, for the names that a template composes."""

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
        """The same with fillers instead of marks, except in keys, which templates look up."""
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

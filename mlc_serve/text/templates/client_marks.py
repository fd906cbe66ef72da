"""Puts marks into a client's texts, for chat templates that compose the names of control tokens from parts
(`"<|" + role + "|>"`). A name in the prompt is the template's own if no mark interrupts it.

Marks are put next to every letter with which a name begins or ends, and around whole texts that could be the
middle of a name. Fillers go further: they replace every letter. If the template takes the same branches with
them, they show which names are its own.

The template's literals stay as they are, because the template may search for them in a text.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any

from mlc_serve.text.json_texts import keys_of, map_texts
from mlc_serve.text.templates.fillers import Fillers
from mlc_serve.text.text_search import TextSearch

# Shorter literals, such as `<`, occur everywhere.
_SHORTEST_LITERAL = 3
# Values that are words of the API rather than a client's text, by their key.
_FIXED = {"role": {"system", "user", "assistant", "tool"}, "type": {"text", "function"}}


class ClientMarks:
    """Puts marks and fillers into texts, for the names that a template composes."""

    def __init__(self, names: Collection[str], literals: Collection[str], asked: Collection[str]) -> None:
        """`literals` are the template's string constants, and `asked` the words that it may use as keys."""
        self._inside = "\0".join(names)
        self._firsts = {name[0] for name in names}
        self._lasts = {name[-1] for name in names}
        kept = [text for text in literals if len(text) >= _SHORTEST_LITERAL and text not in self._inside]
        self._places = TextSearch({*kept, *self._firsts, *self._lasts})
        letters = set("".join(names).casefold())
        harmless = [text for text in literals if letters.isdisjoint(text.casefold())]
        self.kept = TextSearch({*kept, *harmless})
        self._asked = frozenset(asked)

    def put_into(self, written: Any, mark: str) -> Any:
        """Return nested dicts and lists with marks in their texts."""
        return map_texts(written, partial(self._marked, mark))

    def fill(self, written: Any, mark: str, characters: Collection[str]) -> Any:
        """Return the same with fillers in all texts, and with marks in the keys that the template may use.

        `characters` are as many free characters as fillers.num_fillers says.
        """
        keys = [key for key in keys_of(written) if key not in self._asked]
        fillers = Fillers(characters, self.kept, keys)
        return map_texts(written, partial(self._filled, mark, fillers))

    def _filled(self, mark: str, fillers: Fillers, key: str | None, text: str) -> str:
        is_kept = text in self._asked if key is None else _is_fixed(key, text)
        return self._marked(mark, key, text) if is_kept else fillers.fill(text)

    def _marked(self, mark: str, key: str | None, text: str) -> str:
        if key is not None and _is_fixed(key, text):
            return text
        marked = self._places.replace(text, partial(self._marked_place, mark))
        core = text.strip()
        is_asked = key is None and text in self._asked
        if is_asked or not core or core not in self._inside:
            return marked
        start, end = len(text) - len(text.lstrip()), len(text.rstrip()) - len(text)
        return text[:start] + mark + marked.strip() + mark + (text[end:] if end else "")

    def _marked_place(self, mark: str, found: str) -> str:
        before = mark if found in self._lasts else ""
        after = mark if found in self._firsts else ""
        return before + found + after


def _is_fixed(key: str, text: str) -> bool:
    return text in _FIXED.get(key, ())

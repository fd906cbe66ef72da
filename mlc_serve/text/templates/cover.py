"""Distinguishes the control tokens in a prompt from a client's text: it looks for the names that the template
writes, and changes the client's texts before the template sees them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from mlc_serve.errors import InvalidRequestError
from mlc_serve.text.json_texts import map_texts
from mlc_serve.text.pieces import Piece, cut_like, free_characters, text_of
from mlc_serve.text.templates.client_marks import ClientMarks
from mlc_serve.text.templates.fillers import num_fillers
from mlc_serve.text.text_search import TextSearch, change_characters


class ControlNames:
    """The names that a template writes: those that it contains, by their stand-ins, and those that it
    composes. `literals` are the string constants in it, and `asked` the words that it may use as keys.
    """

    def __init__(
        self,
        stand_ins: Mapping[str, str],
        composed: Collection[str] = (),
        literals: Sequence[str] = (),
        asked: Collection[str] = (),
    ) -> None:
        self.stand_ins = stand_ins
        self.literals = literals
        self.marks = ClientMarks(composed, literals, asked) if composed else None
        self._search = TextSearch([*stand_ins, *composed])

    def pieces_of(self, parts: Iterable[str]) -> Iterator[Piece]:
        """Yield the prompt in pieces, cut at the names of control tokens."""
        for position, text in enumerate(self._search.split("".join(parts))):
            if position % 2:
                yield Piece(self.stand_ins.get(text, text), is_control=True)
            elif text:
                yield Piece(text, is_control=False)


class Cover:
    """The changes to one client's texts before rendering, which are undone in the prompt."""

    def __init__(self, names: ControlNames, texts: Sequence[str]) -> None:
        self._names = names
        self._texts = texts
        self._wide = [text for text in (*texts, *names.literals) if not text.isascii()]
        taken = [character for character in names.stand_ins if any(character in text for text in self._wide)]
        others = free_characters(self._wide, len(taken))
        self._exchange = str.maketrans(dict(zip([*taken, *others], [*others, *taken], strict=True)))

    @cached_property
    def end(self) -> str:
        """A character that is neither in the client's texts nor in the template."""
        return self._free[0]

    def over(self, written: Any) -> Any:
        """Return a client's nested dicts and lists with their texts covered."""
        marks = self._names.marks
        exchanged = self._exchanged(written)
        return exchanged if marks is None else marks.put_into(exchanged, self._mark)

    def whole_over(self, written: Any) -> Any:
        """Return the same with the texts hidden, except white space and what a template may search for.

        Return None if the control tokens in the prompt are certain without it.
        """
        marks = self._names.marks
        return None if marks is None else marks.fill(self._exchanged(written), self._mark, self._fillers)

    def sure(self, pieces: list[Piece], filled: list[Piece]) -> list[Piece]:
        """Return the prompt, cut so that all its control tokens are the template's own.

        `filled` is what the template wrote for the texts of `whole_over`; all control tokens in it are the
        template's own. Raises InvalidRequestError if the two prompts differ in more than the client's
        letters, and also in their control tokens.
        """
        text = text_of(pieces)
        if self._are_alike(text, text_of(filled)):
            return cut_like(filled, text)
        if [piece for piece in pieces if piece.is_control] == [piece for piece in filled if piece.is_control]:
            return pieces
        raise InvalidRequestError(
            "the chat template would make the name of a control token from a part of a message",
            param="messages",
        )

    def _are_alike(self, text: str, filled: str) -> bool:
        fillers = self._fillers
        pairs = zip(text, filled, strict=False)
        return len(text) == len(filled) and all(other == mine or other in fillers for mine, other in pairs)

    def _exchanged(self, written: Any) -> Any:
        if not self._exchange:
            return written
        return map_texts(written, lambda _key, text: self._exchanged_text(text))

    def _exchanged_text(self, text: str) -> str:
        return change_characters(text, lambda part: part.translate(self._exchange))

    @property
    def _mark(self) -> str:
        return self._free[1]

    @cached_property
    def _fillers(self) -> dict[str, None]:
        """The fillers in order; there are none if the template composes no names."""
        marks = self._names.marks
        number = 0 if marks is None else num_fillers(self._texts, marks.kept)
        taken = [*self._wide, *self._exchange.values(), *self._free]
        return dict.fromkeys(free_characters(taken, number))

    @cached_property
    def _free(self) -> list[str]:
        return free_characters([*self._wide, *self._exchange.values()], 2)

    def pieces(self, parts: Iterable[str]) -> list[Piece]:
        """Return the prompt in pieces, with the cover removed."""
        pieces = self._names.pieces_of(parts)
        if self._names.marks is None and not self._exchange:
            return list(pieces)
        return [piece if piece.is_control else Piece(self._uncovered(piece.text), False) for piece in pieces]

    def _uncovered(self, text: str) -> str:
        """Remove the mark, which may have been escaped as JSON in ASCII, and undo the exchange."""
        escaped = json.dumps(self._mark)[1:-1]
        return self._exchanged_text(text.replace(self._mark, "").replace(escaped, ""))

"""Compiles the grammars of requests, away from the event loop and from the engine's thread."""

from __future__ import annotations

from functools import partial

from mlc_serve.api.long_texts import LongTexts
from mlc_serve.grammar import Grammar, Grammars, Template


class OutputForms:
    """The grammars of one model's requests, compiled on the threads for long texts."""

    def __init__(self, grammars: Grammars, long_texts: LongTexts) -> None:
        self._grammars = grammars
        self._long_texts = long_texts

    async def template(self, grammar: Grammar | None) -> Template | None:
        """Return a compiled grammar, or None for none. Raises what Grammars.compile raises."""
        if grammar is None:
            return None
        found = self._grammars.find(grammar)
        if found is not None:
            return found
        return await self._long_texts.read(partial(self._grammars.compile, grammar))

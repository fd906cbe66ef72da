"""The text of a growing sequence of tokens. One object for one sequence; owned by whoever streams it."""

from __future__ import annotations

import codecs
from collections.abc import Iterable

from mlc_serve.text.tokenization.tokenizer import Tokenizer


class Detokenizer:
    """Gives text out as soon as its characters are whole, in whatever portions the tokens come.

    All that it gave out equals the UTF-8 decoding of all the bytes at once, with U+FFFD for those that are
    invalid. Special tokens are skipped. `continues_text` says that the tokens go on from a text that is
    already there, as in a raw completion: a space that they begin with is then their own; otherwise it is
    taken off where the tokenizer puts one. So is the last space, where it puts one behind every text.
    """

    def __init__(self, tokenizer: Tokenizer, *, continues_text: bool = False) -> None:
        self._tokenizer = tokenizer
        self._rest = b""  # of a character that is not whole yet
        self._strip_next = tokenizer.strips_leading_space and not continues_text
        self._last_space = ""  # held back while it may be the last

    def push(self, token_ids: Iterable[int]) -> str:
        """The text that these tokens complete."""
        tokenizer = self._tokenizer
        shown = self._rest + b"".join(map(tokenizer.shown_bytes, token_ids))
        # What codecs' incremental decoder calls; it would be a call in Python more for each token.
        text, num_used = codecs.utf_8_decode(shown, "replace", False)
        self._rest = shown[num_used:]
        if self._strip_next:
            text = self._stripped(text)
        return self._without_last_space(text) if tokenizer.strips_last_space else text

    def finish(self) -> str:
        """What is left at the end: U+FFFD if the last character stayed incomplete."""
        text = self._stripped(self._rest.decode(errors="replace"))
        self._rest = b""
        return self._last_space + text if text else ""

    def _stripped(self, text: str) -> str:
        if not (self._strip_next and text):
            return text
        self._strip_next = False
        return text.removeprefix(" ")

    def _without_last_space(self, text: str) -> str:
        text = self._last_space + text
        shown = text.removesuffix(" ")
        self._last_space = text[len(shown) :]
        return shown

"""The text of a growing sequence of tokens. Each sequence has a Detokenizer, owned by the code that streams
it.
"""

from __future__ import annotations

import codecs
from collections.abc import Collection, Iterable

from mlc_serve.text.tokenization.tokenizer import Tokenizer


class Detokenizer:
    """Returns text as soon as its characters are complete; tokens may arrive in any portions.

    Together the returned texts equal the UTF-8 decoding of all bytes at once, with U+FFFD for invalid bytes.
    Special tokens are skipped. If the tokenizer puts a space before every text, the leading space is removed,
    unless `continues_text` says that the tokens continue an existing text, as in a raw completion. If it puts
    a space after every text, the last space is removed.

    Special tokens whose text is in `shown_special` are part of the text.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        continues_text: bool = False,
        shown_special: Collection[str] = frozenset(),
    ) -> None:
        self._tokenizer = tokenizer
        self._shown_ids = tokenizer.special_ids_of(shown_special)
        self._bytes_of = self._bytes_with_special if self._shown_ids else tokenizer.shown_bytes
        self._rest = b""  # the bytes of a character that is not complete yet
        self._strip_next = tokenizer.strips_leading_space and not continues_text
        self._last_space = ""  # held back while it may be the last

    def push(self, token_ids: Iterable[int]) -> str:
        """Return the text that these tokens complete."""
        tokenizer = self._tokenizer
        shown = self._rest + b"".join(map(self._bytes_of, token_ids))
        # The incremental decoder of codecs does the same, at the cost of one more Python call per token.
        text, num_used = codecs.utf_8_decode(shown, "replace", False)
        self._rest = shown[num_used:]
        if self._strip_next:
            text = self._stripped(text)
        return self._without_last_space(text) if tokenizer.strips_last_space else text

    def finish(self) -> str:
        """Return what is left at the end: U+FFFD if the last character is incomplete."""
        text = self._stripped(self._rest.decode(errors="replace"))
        self._rest = b""
        return self._last_space + text if text else ""

    def shows(self, token_id: int) -> bool:
        """Return whether the token is part of the text."""
        return token_id in self._shown_ids or not self._tokenizer.is_special(token_id)

    def _bytes_with_special(self, token_id: int) -> bytes:
        if token_id in self._shown_ids:
            return self._tokenizer.token_bytes(token_id)
        return self._tokenizer.shown_bytes(token_id)

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

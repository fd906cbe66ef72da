"""A model's tokenizer: text to ids, and ids to the exact bytes they stand for. It never changes, and any
thread may use it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers

from mlc_serve.errors import CheckpointError, InvalidRequestError, RequestFailedError
from mlc_serve.text.pieces import Piece, PieceEncoder
from mlc_serve.text.tokenization.description import read_description
from mlc_serve.text.tokenization.faults import tokenizer_faults
from mlc_serve.text.tokenization.files import read_tokenizer
from mlc_serve.text.tokenization.token_bytes import EntryDecoder
from mlc_serve.text.tokenization.token_starts import token_starts

# Some models mark these as special, but they are part of an answer: tool calls are found by them.
_VISIBLE_TAGS = frozenset({"<tool_call>", "</tool_call>"})
# How many times shorter a normalizer may make a text: three Korean letters become one character, runs of
# white space one space. No useful text shrinks more than this.
_MOST_SHORTENED = 4


class Tokenizer:
    """Wraps a Hugging Face tokenizer, and switches off its padding and truncation.

    The bytes of consecutive tokens concatenate to the UTF-8 of their text, even if one character is spread
    over several tokens. Ids without an entry (models pad their vocabulary) have no bytes; `vocab_size` is one
    more than the highest id with an entry. `special_texts` are the texts that `encode` turns into control
    tokens wherever they occur, and `special_ids` their ids. `description` is what its files say about it.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer, description: Mapping[str, Any] | None = None) -> None:
        self.description = description or {}
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        self._pieces = PieceEncoder(tokenizer)
        self._entries = EntryDecoder(tokenizer)
        self.strips_leading_space = self._entries.strips_leading_space
        self.strips_last_space = self._entries.strips_last_space
        added = tokenizer.get_added_tokens_decoder()
        vocab = tokenizer.get_vocab()
        # The ids may have gaps, so that the highest can't be computed from their number.
        self.vocab_size = max([-1, *vocab.values(), *added]) + 1
        longest = max([1, *map(len, vocab), *(len(token.content) for token in added.values())])
        self._most_characters = longest * (1 if tokenizer.normalizer is None else _MOST_SHORTENED)
        # Filled with added entries now, and with other entries when they are first asked for.
        self._bytes = {
            token_id: token.content.encode() if token.special else self._entries.added_to_bytes(token.content)
            for token_id, token in added.items()
        }
        self.special_texts = frozenset(token.content for token in added.values() if token.special)
        self.special_ids = {token.content: token_id for token_id, token in added.items() if token.special}
        self._special_ids = frozenset(
            token_id
            for token_id, token in added.items()
            if token.special and token.content not in _VISIBLE_TAGS
        )

    @classmethod
    def from_directory(cls, path: str | Path) -> Tokenizer:
        """Return the tokenizer of a model directory.

        Raises CheckpointError, which names the file that is missing or wrong.
        """
        try:
            with tokenizer_faults(lambda fault: CheckpointError(f"the tokenizer can't be used: {fault}")):
                tokenizer = cls(read_tokenizer(Path(path)), read_description(Path(path)))
            tokenizer.encode("", add_special_tokens=True)  # fails if its begin or end token is unknown
        except RequestFailedError as error:
            raise CheckpointError(f"{path}: {error}") from error
        except CheckpointError as error:
            raise error if str(path) in str(error) else CheckpointError(f"{path}: {error}") from error
        return tokenizer

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Return the ids of a text. Names of special tokens in it become special tokens.

        `add_special_tokens` adds what the tokenizer puts around every text, such as a begin token. Raises
        InvalidRequestError if the text contains half of a surrogate pair, which is not valid Unicode.
        """
        _check_unicode(text)
        with tokenizer_faults(_cannot_read):
            # Only the batch call lets other threads run meanwhile.
            (encoded,) = self._tokenizer.encode_batch_fast([text], add_special_tokens=add_special_tokens)
        return encoded.ids

    def encode_with_starts(self, text: str, *, add_special_tokens: bool) -> tuple[list[int], list[int]]:
        """Return the ids that `encode` returns, and for each how many characters are complete before it."""
        _check_unicode(text)
        with tokenizer_faults(_cannot_read):
            (encoded,) = self._tokenizer.encode_batch([text], add_special_tokens=add_special_tokens)
        return encoded.ids, token_starts(encoded, self.token_text)

    def encode_pieces(self, pieces: Sequence[Piece]) -> list[int]:
        """Return the ids of the joined pieces, in which only the control pieces are control tokens.

        A control piece is one of `special_texts`. Raises InvalidRequestError as `encode` does, and if the
        tokenizer can't encode a special token's name in other text as plain text.
        """
        for piece in pieces:
            _check_unicode(piece.text)
        with tokenizer_faults(_cannot_read):
            return self._pieces.encode(pieces)

    def vocabulary(self) -> Mapping[str, int]:
        """Return the id of each entry, added tokens included."""
        return self._tokenizer.get_vocab(with_added_tokens=True)

    def fewest_tokens(self, num_characters: int) -> int:
        """Return the fewest tokens that a text of this length can have, given the longest entry."""
        return -(-num_characters // self._most_characters)

    def longest_text(self, num_tokens: int) -> int:
        """Return the most characters that useful text of so many tokens has, given the longest entry."""
        return num_tokens * self._most_characters

    def decode(self, token_ids: Iterable[int], *, shows_special: bool = False) -> str:
        """Return the text of a whole sequence, without special tokens or with their names.

        Bytes that are not UTF-8 become U+FFFD. The space that some tokenizers put before or after every text
        is removed again.
        """
        bytes_of = self.token_bytes if shows_special else self.shown_bytes
        text = b"".join(map(bytes_of, token_ids)).decode(errors="replace")
        text = text.removesuffix(" ") if self.strips_last_space else text
        return text.removeprefix(" ") if self.strips_leading_space else text

    def token_id(self, entry: str) -> int | None:
        """Return the id of an entry, such as the name of a special token, or None if there is none."""
        found: int | None = self._tokenizer.token_to_id(entry)
        return found

    def entry(self, token_id: int) -> str:
        """Return the id's entry as the vocabulary writes it, empty for an id without one."""
        found: str | None = self._tokenizer.id_to_token(token_id)
        return found or ""

    def special_ids_of(self, texts: Iterable[str]) -> frozenset[int]:
        """Return the ids of those texts that are special tokens and not shown in decoded text."""
        return self._special_ids.intersection(
            self.special_ids[text] for text in texts if text in self.special_ids
        )

    def token_bytes(self, token_id: int) -> bytes:
        """Return the id's bytes: for a special token those of its name, for an id without an entry none."""
        known = self._bytes.get(token_id)
        if known is not None:
            return known
        entry = self._tokenizer.id_to_token(token_id) if 0 <= token_id < self.vocab_size else None
        if entry is None:
            return b""
        self._bytes[token_id] = found = self._entries.to_bytes(entry)
        return found

    def shown_bytes(self, token_id: int) -> bytes:
        """Return the id's bytes in decoded text: none for a special token."""
        return b"" if token_id in self._special_ids else self.token_bytes(token_id)

    def token_text(self, token_id: int) -> str:
        """Return the token's bytes decoded by themselves, with U+FFFD for an incomplete character."""
        return self.token_bytes(token_id).decode(errors="replace")

    def is_special(self, token_id: int) -> bool:
        """Return whether the id controls the model and is not shown in decoded text."""
        return token_id in self._special_ids


def _check_unicode(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        character = text[error.start]
        raise InvalidRequestError(
            f"the text contains {character!r} at {error.start}, which is half of a surrogate pair"
        ) from error


def _cannot_read(fault: str) -> RequestFailedError:
    return RequestFailedError(f"The model's tokenizer can't read this text: {fault}")

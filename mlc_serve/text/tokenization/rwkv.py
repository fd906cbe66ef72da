r"""The tokenizer of RWKV's "World" models: at each place in a text, the longest entry of the vocabulary that
its bytes begin with.

A line of the vocabulary's file is an id, an entry as a Python literal (a text, or bytes where it is no valid
text), and its number of bytes, such as `261 '\n\n' 2`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, NormalizedString, PreTokenizedString, decoders, models, pre_tokenizers

from mlc_serve.errors import CheckpointError
from mlc_serve.text.tokenization.token_bytes import byte_level_entry

VOCABULARY_NAME = "rwkv_vocab_v20230424.txt"
DEFAULT_END = "<s>"  # the end token, unless the files name another one
_END_ID = 0  # which no line has
_LONGEST_LINE = 4096
# Cutting a piece off a long text takes time in proportion to the text. So a text is cut in two steps.
_ENTRIES_PER_CUT = 256


class LongestEntries:
    """A step of a tokenizer that cuts a text into the longest entries, from its beginning on. All single
    bytes are entries.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        self._entries = frozenset(entries)
        lengths: dict[str, set[int]] = {}
        for entry in self._entries:
            lengths.setdefault(entry[:2], set()).add(len(entry))
        self._lengths = {first: sorted(found, reverse=True) for first, found in lengths.items()}

    def pre_tokenize(self, text: PreTokenizedString) -> None:
        """Cut all pieces of a text; called by the tokenizer."""
        text.split(lambda _number, piece: list(self._cut(piece)))

    def _cut(self, piece: Any) -> Iterator[NormalizedString]:
        ends = [0, *self._ends(piece.normalized)]
        for first in range(0, len(ends) - 1, _ENTRIES_PER_CUT):
            own = ends[first : first + _ENTRIES_PER_CUT + 1]
            part = piece[own[0] : own[-1]]
            yield from (part[start - own[0] : end - own[0]] for start, end in pairwise(own))

    def _ends(self, text: str) -> Iterator[int]:
        """Yield where each entry ends."""
        end = 0
        while end < len(text):
            end += self._longest(text, end)
            yield end

    def _longest(self, text: str, start: int) -> int:
        """Return the length of the longest entry at a place."""
        for length in self._lengths.get(text[start : start + 2], ()):
            if text[start : start + length] in self._entries:
                return length
        return 1


def rwkv_tokenizer(vocabulary: Mapping[bytes, int], end_token: str) -> tokenizers.Tokenizer:
    """Return the tokenizer of a vocabulary, which has all single bytes. The end token is special, has id 0,
    and must not be an entry.
    """
    entries = {byte_level_entry(entry): token_id for entry, token_id in vocabulary.items()}
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    longest = pre_tokenizers.PreTokenizer.custom(LongestEntries(entries))
    tokenizer = tokenizers.Tokenizer(models.WordLevel({**entries, end_token: _END_ID}))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([as_bytes, longest])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(end_token, special=True)])
    return tokenizer


def read_rwkv_vocabulary(path: Path) -> dict[bytes, int]:
    """Return the ids of a vocabulary's entries. Raises CheckpointError, which names a line that is wrong."""
    vocabulary: dict[bytes, int] = {}
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                entry, token_id = _read_line(line, f"{path}, line {number}")
                vocabulary[entry] = token_id
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} can't be read: {error}") from error
    missing = [byte for byte in range(256) if bytes([byte]) not in vocabulary]
    if missing:
        raise CheckpointError(f"{path} lacks {len(missing)} of the 256 bytes, such as {missing[0]:#04x}")
    return vocabulary


def _read_line(line: str, place: str) -> tuple[bytes, int]:
    token_id, _, rest = line[:_LONGEST_LINE].strip().partition(" ")
    literal, _, length = rest.rpartition(" ")
    try:
        entry = ast.literal_eval(literal.strip())
        entry = entry.encode() if isinstance(entry, str) else entry
        if isinstance(entry, bytes) and len(entry) == int(length) > 0 and int(token_id) > _END_ID:
            return entry, int(token_id)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        pass
    raise CheckpointError(f"{place} is not an id, an entry and its number of bytes")

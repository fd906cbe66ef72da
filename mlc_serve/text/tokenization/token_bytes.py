"""The bytes that one vocabulary entry stands for. Knows nothing about tokenizer files and ids.

Byte-level BPE (GPT-2, Llama 3, Qwen2) writes each byte as one printable character. SentencePiece (Llama 2,
Gemma) writes text as it is, a space as "▁", and the bytes of characters outside its vocabulary as "<0xNN>".
WordPiece (BERT) marks entries that continue a word; all others begin with a space. The library's own decoder
handles all other kinds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import tokenizers

from mlc_serve.errors import CheckpointError

ToBytes = Callable[[str], bytes]

_BYTE_ENTRY = re.compile(r"<0x([0-9A-Fa-f]{2})>")

# Entries are decoded between two of this one, whose text no decoder changes.
_NEIGHBOUR = "x"


class EntryDecoder:
    """Turns one tokenizer's entries into bytes, by the decoder that its file declares.

    `strips_leading_space` and `strips_last_space` say that the tokenizer adds a space before or after every
    text, which decoding removes. Raises CheckpointError if an entry's text depends on the entries around it.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        self._decoder = tokenizer.decoder
        self._kinds = {step["type"] for step in _decoder_steps(tokenizer)}
        if "CTC" in self._kinds:
            raise CheckpointError("the tokenizer's decoder is not supported: CTC")
        self.is_byte_level = "ByteLevel" in self._kinds
        self._before = len(self._decoded([_NEIGHBOUR]))
        self._behind = len(self._decoded([_NEIGHBOUR] * 2)) - self._before
        self.strips_leading_space = not self.is_byte_level and any(
            self._in_the_middle(entry) == f" {self._decoded([entry])}" for entry in ("▁x", " x", "x")
        )
        self.strips_last_space = "BPEDecoder" in self._kinds
        self.to_bytes: ToBytes = _byte_level_bytes if self.is_byte_level else self._other_bytes

    def added_to_bytes(self, text: str) -> bytes:
        """Return the bytes of an entry that was added to the vocabulary. Byte-level tokenizers store such
        entries as plain text.
        """
        return text.encode() if self.is_byte_level else self.to_bytes(text)

    def _other_bytes(self, entry: str) -> bytes:
        byte = _BYTE_ENTRY.fullmatch(entry) if "ByteFallback" in self._kinds else None
        return bytes([int(byte[1], 16)]) if byte else self._in_the_middle(entry).encode()

    def _in_the_middle(self, entry: str) -> str:
        """Return the entry's text between other text, which may differ from its text at either end."""
        whole = self._decoded([_NEIGHBOUR, entry, _NEIGHBOUR])
        return whole[self._before : len(whole) - self._behind]

    def _decoded(self, entries: list[str]) -> str:
        return " ".join(entries) if self._decoder is None else self._decoder.decode(entries)


def _decoder_steps(tokenizer: tokenizers.Tokenizer) -> Iterator[dict[str, Any]]:
    """Yield the steps of the declared decoder, if there is one, with nested sequences flattened."""
    if tokenizer.decoder is None:
        return
    waiting = [json.loads(tokenizer.decoder.__getstate__())]
    while waiting:
        step = waiting.pop(0)
        if step["type"] == "Sequence":
            waiting = step["decoders"] + waiting
        else:
            yield step


def _stand_ins() -> dict[int, str]:
    """Return a translation table from the printable character that stands for a byte to chr(byte).

    Printable Latin-1 stands for itself; the other bytes are numbered from U+0100, in order. The table moves
    all other characters below 256 out of the way.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = sorted(set(range(256)) - set(printable))
    table = {other: chr(0x10000 + other) for other in others}
    table |= {0x100 + i: chr(other) for i, other in enumerate(others)}
    return table


_BYTE_OF_STAND_IN = _stand_ins()
_STAND_IN_OF_BYTE = {ord(byte): chr(code) for code, byte in _BYTE_OF_STAND_IN.items() if ord(byte) < 0x100}


def byte_level_entry(content: bytes) -> str:
    """Return how a byte-level vocabulary writes bytes."""
    return "".join(_STAND_IN_OF_BYTE.get(byte, chr(byte)) for byte in content)


def _byte_level_bytes(entry: str) -> bytes:
    try:
        return entry.translate(_BYTE_OF_STAND_IN).encode("latin-1")
    except UnicodeEncodeError:  # an entry that isn't written in stand-ins is plain text
        return entry.encode()

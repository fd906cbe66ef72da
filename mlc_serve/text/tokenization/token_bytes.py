"""The bytes that one vocabulary entry stands for. Knows no tokenizer file and no ids.

Byte-level BPE (GPT-2, Llama 3, Qwen2) writes each byte as one printable character. SentencePiece (Llama 2,
Gemma) writes text as it is, a space as "▁", and bytes that are no character of its vocabulary as "<0xNN>".
WordPiece (BERT) marks entries that continue a word; all others begin with a space. What else there is, the
library's own decoder tells.
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

# An entry between which others are decoded: its text is nothing that a decoder changes.
_NEIGHBOUR = "x"


class EntryDecoder:
    """How one tokenizer's entries become bytes, told by the decoder that its file declares.

    `strips_leading_space` and `strips_last_space` say that the space which begins or ends a text is none of
    the text's own: it is left out where entries are decoded. CheckpointError if an entry's text depends on
    the entries around it.
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
        """Bytes of an entry that was added beside the learned vocabulary; byte-level tokenizers store its
        text as it is.
        """
        return text.encode() if self.is_byte_level else self.to_bytes(text)

    def _other_bytes(self, entry: str) -> bytes:
        byte = _BYTE_ENTRY.fullmatch(entry) if "ByteFallback" in self._kinds else None
        return bytes([int(byte[1], 16)]) if byte else self._in_the_middle(entry).encode()

    def _in_the_middle(self, entry: str) -> str:
        """The entry's text with other text on both sides, which decoders may treat in another way."""
        whole = self._decoded([_NEIGHBOUR, entry, _NEIGHBOUR])
        return whole[self._before : len(whole) - self._behind]

    def _decoded(self, entries: list[str]) -> str:
        return " ".join(entries) if self._decoder is None else self._decoder.decode(entries)


def _decoder_steps(tokenizer: tokenizers.Tokenizer) -> Iterator[dict[str, Any]]:
    """The declared decoder, its sequences laid flat; nothing if there is none."""
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
    """Translation from the printable character of a byte to chr(byte); all other characters below 256 to ones
    above.

    Printable Latin-1 stands for itself; the bytes between are counted up from U+0100, in order.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = sorted(set(range(256)) - set(printable))
    table = {other: chr(0x10000 + other) for other in others}
    table |= {0x100 + i: chr(other) for i, other in enumerate(others)}
    return table


_BYTE_OF_STAND_IN = _stand_ins()


def _byte_level_bytes(entry: str) -> bytes:
    try:
        return entry.translate(_BYTE_OF_STAND_IN).encode("latin-1")
    except UnicodeEncodeError:  # an entry that was not written in stand-ins is its own text
        return entry.encode()

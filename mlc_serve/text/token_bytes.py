"""The bytes that one vocabulary entry stands for, in the two families of BPE. Knows no tokenizer file and no
ids.

Byte-level BPE (GPT-2, Llama 3, Qwen2) writes each byte as one printable character. SentencePiece (Llama 2,
Gemma) writes text as it is, a space as "▁", and bytes that are no character of its vocabulary as "<0xNN>".
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import tokenizers

from mlc_serve.errors import CheckpointError

ToBytes = Callable[[str], bytes]

_SPACE_MARK = "\u2581"
_BYTE_ENTRY = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class EntryDecoder:
    """How one tokenizer's entries become bytes, read off the decoder that its file declares.

    `strips_leading_space` says that the tokenizer puts a space before every text, which is none of the text's
    own. CheckpointError if the decoder is of neither family.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        steps = list(_decoder_steps(tokenizer))
        kinds = {step["type"] for step in steps}
        self.is_byte_level = "ByteLevel" in kinds
        if not self.is_byte_level and kinds.isdisjoint({"Metaspace", "ByteFallback", "Replace"}):
            raise CheckpointError(
                f"the tokenizer's decoder is not supported: {', '.join(sorted(kinds)) or 'none'}"
            )
        self.strips_leading_space = any(map(_strips_leading_space, steps))
        self.to_bytes: ToBytes = _byte_level_bytes if self.is_byte_level else _sentencepiece_bytes

    def added_to_bytes(self, text: str) -> bytes:
        """Bytes of an entry that was added beside the learned vocabulary; byte-level tokenizers store its
        text as it is.
        """
        return text.encode() if self.is_byte_level else self.to_bytes(text)


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


def _strips_leading_space(step: dict[str, Any]) -> bool:
    if step["type"] == "Metaspace":
        return bool(step.get("prepend_scheme", "always") != "never")
    return step["type"] == "Strip" and step.get("content") == " " and step.get("start", 0) > 0


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


def _sentencepiece_bytes(entry: str) -> bytes:
    byte = _BYTE_ENTRY.fullmatch(entry)
    return bytes([int(byte[1], 16)]) if byte else entry.replace(_SPACE_MARK, " ").encode()

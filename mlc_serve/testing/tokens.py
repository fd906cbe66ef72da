"""A tokenizer over bytes, with a few special tokens."""

from __future__ import annotations

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors

from mlc_serve.text.tokenization.tokenizer import Tokenizer

BOS_ID = 256
EOS_ID = 257
IM_START_ID = 258
IM_END_ID = 259
VOCAB_SIZE = 260
SPECIAL_TOKENS = {"<s>": BOS_ID, "</s>": EOS_ID, "<|im_start|>": IM_START_ID, "<|im_end|>": IM_END_ID}


def byte_tokenizer() -> Tokenizer:
    """Return a tokenizer whose ids below 256 are bytes. SPECIAL_TOKENS follow, and `<s>` begins a text."""
    return Tokenizer(_byte_level())


def _byte_level() -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab=byte_vocabulary(), merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", BOS_ID)]
    )
    return tokenizer


def byte_vocabulary() -> dict[str, int]:
    """Return the characters that stand for bytes: printable Latin-1 for itself, others from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    stand_ins = {byte: chr(byte) for byte in printable} | {
        byte: chr(256 + i) for i, byte in enumerate(others)
    }
    return {stand_in: byte for byte, stand_in in stand_ins.items()}

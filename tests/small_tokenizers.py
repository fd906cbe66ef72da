"""Small tokenizers of each family, built without files: "hello" and "world" are learned, all other text is in
single pieces.
"""

from __future__ import annotations

import json

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

_SPECIAL = ["<s>", "</s>", "<tool_call>", "</tool_call>"]


def byte_level_bpe() -> tokenizers.Tokenizer:
    """A tokenizer like GPT-2's, Llama 3's and Qwen2's."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("Ġ", "w"), ("Ã", "©")]
    entries = [*alphabet, *map("".join, merges)]
    tokenizer = tokenizers.Tokenizer(
        models.BPE(vocab={entry: i for i, entry in enumerate(entries)}, merges=merges)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(_SPECIAL)
    return tokenizer


def sentencepiece_bpe() -> tokenizers.Tokenizer:
    """A tokenizer like Llama 2's: a space before each text, marks for spaces, bytes for other characters."""
    tokenizer = _with_byte_fallback()
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    return tokenizer


def metaspace_bpe() -> tokenizers.Tokenizer:
    """A tokenizer like Mistral's, which marks spaces in the pre-tokenizer and adds none before a text."""
    tokenizer = _with_byte_fallback()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="never"), decoders.Fuse()]
    )
    return tokenizer


def panicking() -> tokenizers.Tokenizer:
    """A tokenizer whose file puts an undefined token before each text, at which the library panics."""
    saved = json.loads(byte_level_bpe().to_str())
    sequence = {"Sequence": {"id": "A", "type_id": 0}}
    saved["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<begin>", "type_id": 0}}, sequence],
        "pair": [sequence],
        "special_tokens": {},
    }
    return tokenizers.Tokenizer.from_str(json.dumps(saved))


def _with_byte_fallback() -> tokenizers.Tokenizer:
    merges = [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("▁", "hello")]
    bytes_of_text = [f"<0x{byte:02X}>" for byte in range(256)]
    entries = ["<unk>", *_SPECIAL, *bytes_of_text, "▁", *"helowrd", *map("".join, merges)]
    tokenizer = tokenizers.Tokenizer(
        models.BPE(
            vocab={entry: i for i, entry in enumerate(entries)},
            merges=merges,
            unk_token="<unk>",
            byte_fallback=True,
            fuse_unk=True,
        )
    )
    tokenizer.add_special_tokens(_SPECIAL)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer

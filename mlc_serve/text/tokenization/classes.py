"""The tokenizer classes of transformers 5 that build their own pipeline around a vocabulary.

They use the vocabulary and merges of tokenizer.json, but ignore its normalization, pre-tokenization and
decoding. All other classes use tokenizer.json as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers

Options = Mapping[str, Any]


@dataclass(frozen=True)
class TokenizerClass:
    """`set_up` gives a tokenizer with a BPE model its pipeline, by the options of tokenizer_config.json.

    `named_tokens` are used where no file declares a token of that name. With `reads_unknown`, characters
    outside the vocabulary become the unknown token. With `from_sentencepiece`, the vocabulary may be in
    tokenizer.model rather than in vocab.json and merges.txt.
    """

    set_up: Callable[[tokenizers.Tokenizer, Options], None]
    named_tokens: Mapping[str, str]
    reads_unknown: bool = False
    from_sentencepiece: bool = False
    adds_begin_token: bool = False  # always with a tokenizer.json, else unless an option says otherwise
    renews_special_tokens: bool = False  # ignores the flags that files declare for special tokens


def _llama(tokenizer: tokenizers.Tokenizer, options: Options) -> None:
    has_prefix = _adds_prefix_space(options, default=True)
    scheme = "never" if not has_prefix else "always" if options.get("legacy") else "first"
    _put_metaspace(tokenizer, scheme, strips_space=has_prefix)


def _code_llama(tokenizer: tokenizers.Tokenizer, options: Options) -> None:
    scheme = "first" if _adds_prefix_space(options, default=True) else "never"
    _put_metaspace(tokenizer, scheme, strips_space=True)


def _put_metaspace(tokenizer: tokenizers.Tokenizer, scheme: str, *, strips_space: bool) -> None:
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if strips_space else steps)
    _set_model(tokenizer.model, is_sentencepiece=True)


def _gemma(tokenizer: tokenizers.Tokenizer, _: Options) -> None:
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(steps)
    _set_model(tokenizer.model, is_sentencepiece=True)


def _gpt2(tokenizer: tokenizers.Tokenizer, options: Options) -> None:
    prefix = _adds_prefix_space(options, default=False)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    tokenizer.decoder = decoders.ByteLevel()
    _set_model(tokenizer.model, is_sentencepiece=False)


# How Qwen2 splits text into words: letters, single digits, other characters, line ends, spaces.
_QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


def _qwen2(tokenizer: tokenizers.Tokenizer, options: Options) -> None:
    prefix = _adds_prefix_space(options, default=False)
    words = pre_tokenizers.Split(Regex(_QWEN2_WORDS), "isolated")
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=False)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, as_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    _set_model(tokenizer.model, is_sentencepiece=False)


def _set_model(model: models.BPE, *, is_sentencepiece: bool) -> None:
    model.fuse_unk = is_sentencepiece
    model.byte_fallback = is_sentencepiece
    model.ignore_merges = False
    model.unk_token = None


def _adds_prefix_space(options: Options, *, default: bool) -> bool:
    value = options.get("add_prefix_space")
    return default if value is None else bool(value)


_LLAMA_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
_INFILLING_TOKENS = {
    "prefix_token": "▁<PRE>",
    "middle_token": "▁<MID>",
    "suffix_token": "▁<SUF>",
    "eot_token": "▁<EOT>",
    "fill_token": "<FILL_ME>",
}
_GEMMA_TOKENS = {
    "bos_token": "<bos>",
    "eos_token": "<eos>",
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "mask_token": "<mask>",
}
_GPT2_TOKENS = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
_QWEN2_TOKENS = dict.fromkeys(("eos_token", "unk_token", "pad_token"), "<|endoftext|>")

TOKENIZER_CLASSES = {
    "LlamaTokenizer": TokenizerClass(_llama, _LLAMA_TOKENS, from_sentencepiece=True),
    "CodeLlamaTokenizer": TokenizerClass(
        _code_llama,
        {**_LLAMA_TOKENS, **_INFILLING_TOKENS},
        reads_unknown=True,
        from_sentencepiece=True,
        adds_begin_token=True,
    ),
    "GemmaTokenizer": TokenizerClass(_gemma, _GEMMA_TOKENS, reads_unknown=True, from_sentencepiece=True),
    "GPT2Tokenizer": TokenizerClass(_gpt2, _GPT2_TOKENS),
    "Qwen2Tokenizer": TokenizerClass(_qwen2, _QWEN2_TOKENS, renews_special_tokens=True),
}

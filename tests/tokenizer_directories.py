"""Model directories with small tokenizers of all kinds, as different tools would have written them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import sentencepiece
import tokenizers
from tokenizers import (
    AddedToken,
    Regex,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from tests.small_tokenizers import byte_level_bpe, metaspace_bpe, sentencepiece_bpe

GENERIC = "PreTrainedTokenizerFast"


def write_directory(
    path: Path,
    tokenizer: tokenizers.Tokenizer,
    *,
    tokenizer_class: str | None = GENERIC,
    model_type: str = "llama",
    **files: Mapping[str, Any],
) -> None:
    """Write tokenizer.json and the other files, which are given by name."""
    path.mkdir(parents=True)
    tokenizer.save(str(path / "tokenizer.json"))
    declared = {} if tokenizer_class is None else {"tokenizer_class": tokenizer_class}
    contents = {"config": {"model_type": model_type}, "tokenizer_config": declared} | files
    contents["tokenizer_config"] = {**declared, **contents["tokenizer_config"]}
    for name, content in contents.items():
        (path / f"{name}.json").write_text(json.dumps(content))


def token(text: str, *, special: bool = True, **flags: bool) -> dict[str, Any]:
    """A token as added_tokens_decoder has it."""
    plain = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    return {"content": text, **plain, "special": special, **flags}


def _with_prefix_space() -> tokenizers.Tokenizer:
    tokenizer = byte_level_bpe()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.post_processor = processors.TemplateProcessing(
        "<s> $A </s>", None, [("<s>", 262), ("</s>", 263)]
    )
    return tokenizer


def _metaspace(scheme: str) -> tokenizers.Tokenizer:
    tokenizer = metaspace_bpe()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme=scheme), decoders.Fuse()]
    )
    return tokenizer


def _gemma_like() -> tokenizers.Tokenizer:
    tokenizer = metaspace_bpe()
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return tokenizer


def _split_by_regex() -> tokenizers.Tokenizer:
    """A tokenizer like Llama 3's: digits in threes, words with the space before them."""
    tokenizer = byte_level_bpe()
    words = Regex(r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+(?!\S)|\s+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return tokenizer


def _single_digits() -> tokenizers.Tokenizer:
    tokenizer = byte_level_bpe()
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return tokenizer


def _unigram() -> tokenizers.Tokenizer:
    pieces = [
        ("<unk>", 0.0),
        ("<s>", 0.0),
        ("</s>", 0.0),
        *((f"<0x{byte:02X}>", -9.0) for byte in range(256)),
    ]
    words = [("▁", -2.0), ("▁hello", -1.0), ("▁wor", -2.0), ("ld", -2.0), *((c, -4.0) for c in "helowrd,.!")]
    tokenizer = tokenizers.Tokenizer(models.Unigram([*pieces, *words], 0, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return tokenizer


def _wordpiece() -> tokenizers.Tokenizer:
    words = [
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "hello",
        "wor",
        "##ld",
        "##lo",
        "hel",
        "!",
        ",",
        ".",
        "it",
        "'",
        "s",
        "1",
        "##2",
    ]
    vocabulary = {word: i for i, word in enumerate(words)}
    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", None, [("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(["[UNK]", "[CLS]", "[SEP]"])
    return tokenizer


def _without_decoder() -> tokenizers.Tokenizer:
    words = {"<unk>": 0, "hello": 1, "world": 2, "<s>": 3}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<s>"])
    return tokenizer


def _with_ends_of_words() -> tokenizers.Tokenizer:
    """A tokenizer like the first GPT's, which marks the ends of words rather than their beginnings."""
    entries = ["<unk>", *"helowrd", *(f"{letter}</w>" for letter in "helowrd!"), "ld</w>", "he"]
    tokenizer = tokenizers.Tokenizer(
        models.BPE(
            vocab={entry: i for i, entry in enumerate(entries)},
            merges=[("l", "d</w>"), ("h", "e")],
            unk_token="<unk>",
            end_of_word_suffix="</w>",
        )
    )
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.BPEDecoder()
    tokenizer.add_special_tokens(["<unk>"])
    return tokenizer


def _with_gaps() -> tokenizers.Tokenizer:
    saved = json.loads(byte_level_bpe().to_str())
    vocabulary = saved["model"]["vocab"]
    saved["model"]["vocab"] = {entry: number * 3 for entry, number in vocabulary.items()}
    saved["added_tokens"] = []
    return tokenizers.Tokenizer.from_str(json.dumps(saved))


def _with_odd_added_tokens() -> tokenizers.Tokenizer:
    tokenizer = byte_level_bpe()
    tokenizer.add_tokens(
        [
            AddedToken("<left>", lstrip=True),
            AddedToken("<right>", rstrip=True, normalized=False),
            AddedToken("word", single_word=True),
            AddedToken("東x", normalized=True),
        ]
    )
    tokenizer.normalizer = normalizers.Lowercase()
    return tokenizer


def _padded() -> tokenizers.Tokenizer:
    tokenizer = sentencepiece_bpe()
    tokenizer.enable_padding(length=64, pad_id=9, pad_token="<pad>")
    tokenizer.enable_truncation(4)
    return tokenizer


def _fused() -> tokenizers.Tokenizer:
    tokenizer = byte_level_bpe()
    tokenizer.pre_tokenizer = None
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


def _only_vocab_and_merges(path: Path, tokenizer_class: str, **config: Any) -> None:
    """Write a directory with vocab.json and merges.txt, as GPT-2 and Qwen were first published."""
    model_type = "qwen2" if tokenizer_class == "Qwen2Tokenizer" else "llama"
    write_directory(
        path,
        byte_level_bpe(),
        tokenizer_class=tokenizer_class,
        model_type=model_type,
        tokenizer_config=config,
    )
    saved = json.loads((path / "tokenizer.json").read_text())
    (path / "tokenizer.json").unlink()
    (path / "vocab.json").write_text(json.dumps(saved["model"]["vocab"]))
    merges = "\n".join(" ".join(pair) for pair in saved["model"]["merges"])
    (path / "merges.txt").write_text(f"#version: 0.2\n{merges}\n")


def _sentencepiece_model(path: Path, tokenizer_class: str | None, kind: str, **config: Any) -> None:
    """Write a directory whose only vocabulary is SentencePiece's file, as the first Llamas were published."""
    path.mkdir(parents=True)
    sentences = ["hello world, words and 12 numbers", "what does it mean, it's a test", "naïve wörds hellö"]
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences * 20),
        model_writer=written,
        model_type=kind,
        vocab_size=310,
        hard_vocab_limit=False,
        byte_fallback=True,
        control_symbols=["<ctl>"],
        user_defined_symbols=["<think>"],
        normalization_rule_name="identity" if kind == "bpe" else "nmt_nfkc",
        remove_extra_whitespaces=kind == "unigram",
        minloglevel=2,
    )
    (path / "tokenizer.model").write_bytes(written.getvalue())
    (path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    declared = config if tokenizer_class is None else {"tokenizer_class": tokenizer_class, **config}
    (path / "tokenizer_config.json").write_text(json.dumps(declared))


Write = Callable[[Path], None]


def _saved(build: Callable[[], tokenizers.Tokenizer], **given: Any) -> Write:
    return lambda path: write_directory(path, build(), **given)


_LISTED = {
    "added_tokens_decoder": {
        "262": token("<s>"),
        "263": token("</s>"),
        "270": token("<|im_start|>"),
        "271": token("<|im_end|>"),
        "272": token("<think>", special=False),
        "273": token("  ", special=False, normalized=True),
    },
    "eos_token": "<|im_end|>",
    "pad_token": "<pad>",
    "image_token": "<image>",
    "additional_special_tokens": ["<|im_start|>", "<|extra|>"],
}
_SPECIAL_MAP = {
    "bos_token": {
        "content": "<begin>",
        "lstrip": False,
        "normalized": False,
        "rstrip": True,
        "single_word": False,
    },
    "eos_token": "</s>",
    "additional_special_tokens": ["<|a|>", "<|b|>"],
}

DIRECTORIES: dict[str, Write] = {
    "byte-level": _saved(byte_level_bpe),
    "byte-level, no class": _saved(byte_level_bpe, tokenizer_class=None),
    "byte-level, prefix space": _saved(_with_prefix_space),
    "byte-level, regex": _saved(_split_by_regex),
    "byte-level, digits": _saved(_single_digits),
    "byte-level, declared in the config": _saved(byte_level_bpe, tokenizer_config=_LISTED),
    "byte-level, declared in older files": _saved(
        byte_level_bpe,
        special_tokens_map=_SPECIAL_MAP,
        added_tokens={"<|a|>": 266, "<tag>": 267, "</s>": 263},
    ),
    "byte-level, declared in newer fields": _saved(
        byte_level_bpe,
        tokenizer_config={
            "extra_special_tokens": {"video_token": "<video>"},
            "bos_token": {"__type": "AddedToken", **token("<begin>", special=False)},
            "unk_token": None,
        },
        special_tokens_map={"extra_special_tokens": ["<|c|>", "<|d|>"]},
    ),
    "byte-level, gaps": _saved(_with_gaps, tokenizer_config={"eos_token": "</s>", "pad_token": "<pad>"}),
    "byte-level, odd added tokens": _saved(_with_odd_added_tokens),
    "byte-level, LlamaTokenizer": _saved(_split_by_regex, tokenizer_class="LlamaTokenizerFast"),
    "byte-level, GPT2Tokenizer": _saved(_single_digits, tokenizer_class="GPT2Tokenizer"),
    "byte-level, Qwen2": _saved(
        _with_prefix_space, tokenizer_class="Qwen2Tokenizer", model_type="qwen2", tokenizer_config=_LISTED
    ),
    "byte-level, Qwen2 by its model": _saved(_single_digits, model_type="qwen2"),
    "byte-level, added beyond the vocabulary": _saved(
        byte_level_bpe, tokenizer_config={"pad_token": "<pad>", "add_bos_token": True, "bos_token": "<s>"}
    ),
    "byte-level, split special tokens": _saved(
        byte_level_bpe, tokenizer_config={"split_special_tokens": True}
    ),
    "byte-level, fused": _saved(_fused),
    "Prepend": _saved(sentencepiece_bpe),
    "Prepend, LlamaTokenizer": _saved(sentencepiece_bpe, tokenizer_class="LlamaTokenizer"),
    "Prepend, legacy LlamaTokenizer": _saved(
        sentencepiece_bpe, tokenizer_class="LlamaTokenizer", tokenizer_config={"legacy": True}
    ),
    "Prepend, LlamaTokenizer without prefix": _saved(
        sentencepiece_bpe,
        tokenizer_class="LlamaTokenizer",
        tokenizer_config={"add_prefix_space": False, "add_bos_token": False, "pad_token": "<pad>"},
    ),
    "Prepend, CodeLlamaTokenizer": _saved(sentencepiece_bpe, tokenizer_class="CodeLlamaTokenizer"),
    "Prepend, padding and truncation": _saved(_padded),
    "Metaspace first": _saved(lambda: _metaspace("first")),
    "Metaspace always": _saved(lambda: _metaspace("always")),
    "Metaspace never": _saved(metaspace_bpe),
    "Gemma": _saved(_gemma_like),
    "Gemma, GemmaTokenizer": _saved(_gemma_like, tokenizer_class="GemmaTokenizer"),
    "Unigram": _saved(_unigram),
    "WordPiece": _saved(_wordpiece),
    "ends of words": _saved(_with_ends_of_words),
    "no decoder": _saved(_without_decoder),
    "SentencePiece, LlamaTokenizer": lambda path: _sentencepiece_model(
        path, "LlamaTokenizer", "bpe", add_bos_token=True, legacy=False
    ),
    "SentencePiece, legacy LlamaTokenizer": lambda path: _sentencepiece_model(
        path, "LlamaTokenizer", "bpe", add_eos_token=True, legacy=True, pad_token="<pad>"
    ),
    "SentencePiece, CodeLlamaTokenizer": lambda path: _sentencepiece_model(path, "CodeLlamaTokenizer", "bpe"),
    "SentencePiece, GemmaTokenizer": lambda path: _sentencepiece_model(path, "GemmaTokenizer", "bpe"),
    "SentencePiece": lambda path: _sentencepiece_model(path, GENERIC, "bpe"),
    "SentencePiece, tokens listed": lambda path: _sentencepiece_model(
        path, GENERIC, "bpe", added_tokens_decoder={"3": token("<ctl>", normalized=True)}, legacy=False
    ),
    "SentencePiece, Unigram": lambda path: _sentencepiece_model(path, GENERIC, "unigram", add_bos_token=True),
    "vocab.json, GPT2Tokenizer": lambda path: _only_vocab_and_merges(
        path, "GPT2Tokenizer", bos_token="<s>", add_bos_token=True
    ),
    "vocab.json, Qwen2Tokenizer": lambda path: _only_vocab_and_merges(path, "Qwen2Tokenizer"),
}

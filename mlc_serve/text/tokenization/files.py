"""Reads the tokenizer files of a model directory. The ids are those of transformers' AutoTokenizer.

tokenizer.json, tokenizer.model, or vocab.json and merges.txt    vocabulary and pipeline
rwkv_vocab_v20230424.txt                                         the same for RWKV
tokenizer_config.json, config.json                               the tokenizer's class and its options
the files of declared_tokens.py                                  special and other added tokens
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, models, processors

from mlc_serve.errors import CheckpointError
from mlc_serve.text.json_object import read_json_object_if_present
from mlc_serve.text.tokenization.classes import TOKENIZER_CLASSES, Options, TokenizerClass
from mlc_serve.text.tokenization.declared_tokens import DeclaredTokens, read_declared_tokens
from mlc_serve.text.tokenization.faults import tokenizer_faults
from mlc_serve.text.tokenization.rwkv import (
    DEFAULT_END,
    VOCABULARY_NAME,
    read_rwkv_vocabulary,
    rwkv_tokenizer,
)

# The tokenizer class of these models, whatever their files say.
_CLASS_OF_MODEL = {"qwen2": "Qwen2Tokenizer"}


def read_tokenizer(directory: Path) -> tokenizers.Tokenizer:
    """Return the tokenizer of a model directory, with all the tokens that its files declare.

    Raises CheckpointError, which names the file that is missing or wrong.
    """
    config = read_json_object_if_present(directory / "tokenizer_config.json")
    path = directory / "tokenizer.json"
    if path.exists():
        tokenizer = _from_tokenizer_json(directory, _read_file(path), config)
    elif (directory / "tokenizer.model").exists():
        tokenizer = _from_sentencepiece(directory, config)
    elif (directory / VOCABULARY_NAME).exists():
        tokenizer = _from_rwkv_vocabulary(directory, config)
    else:
        tokenizer = _from_vocab_and_merges(directory, config)
    tokenizer.encode_special_tokens = bool(config.get("split_special_tokens"))
    return tokenizer


def _from_tokenizer_json(
    directory: Path, saved: tokenizers.Tokenizer, config: Options
) -> tokenizers.Tokenizer:
    """Make a tokenizer from tokenizer.json. That says which tokens go around each text, so the options for
    begin and end tokens are ignored.
    """
    known = _class_of(directory, config, saved)
    padding = {} if saved.padding is None else {"pad_token": saved.padding["pad_token"]}
    named = {**padding, **(known.named_tokens if known else {})}
    declared = read_declared_tokens(directory, config, saved.get_added_tokens_decoder(), named)
    if known is None:
        declared.add_to(saved)
        return saved
    tokenizer = _of_class(known, saved.model, declared, config)
    if known.adds_begin_token:
        _surround(tokenizer, declared, {"add_bos_token": True})
    elif saved.post_processor is not None:
        tokenizer.post_processor = saved.post_processor
    return tokenizer


def _from_sentencepiece(directory: Path, config: Options) -> tokenizers.Tokenizer:
    # This loads protobuf, which other models don't need.
    from mlc_serve.text.tokenization.sentencepiece import SentencePieceModel  # noqa: PLC0415

    pieces = SentencePieceModel.read(directory / "tokenizer.model")
    known = _class_of(directory, config)
    named = known.named_tokens if known else pieces.named_tokens()
    declared = read_declared_tokens(directory, config, {}, named)
    if declared.extra is None:
        declared = replace(declared, extra=pieces.added_tokens(with_user_defined=known is not None))
    if known:
        tokenizer = _of_class(known, pieces.bpe(), declared, config)
    else:
        tokenizer = pieces.tokenizer(first_only=not config.get("legacy", True))
        (declared.unnormalized() if pieces.adds_space else declared).add_to(tokenizer)
    default = {"add_bos_token": known is not None and known.adds_begin_token}
    _surround(tokenizer, declared, {**default, **config})
    return tokenizer


def _from_vocab_and_merges(directory: Path, config: Options) -> tokenizers.Tokenizer:
    known = _class_of(directory, config)
    vocabulary, merges = directory / "vocab.json", directory / "merges.txt"
    if known is None or known.from_sentencepiece or not (vocabulary.is_file() and merges.is_file()):
        raise CheckpointError(f"{directory}: there is no tokenizer.json")
    with tokenizer_faults(lambda fault: CheckpointError(f"{vocabulary}, {merges.name}: {fault}")):
        model = models.BPE.from_file(str(vocabulary), str(merges))
    declared = read_declared_tokens(directory, config, {}, known.named_tokens)
    tokenizer = _of_class(known, model, declared, config)
    _surround(tokenizer, declared, config)
    return tokenizer


def _from_rwkv_vocabulary(directory: Path, config: Options) -> tokenizers.Tokenizer:
    vocabulary = read_rwkv_vocabulary(directory / VOCABULARY_NAME)
    end = read_declared_tokens(directory, config, {}, {"eos_token": DEFAULT_END}).named["eos_token"].content
    if end.encode() in vocabulary:
        raise CheckpointError(
            f"{directory / VOCABULARY_NAME}: the end token {end!r} is an entry for text, too"
        )
    return rwkv_tokenizer(vocabulary, end)


def _read_file(path: Path) -> tokenizers.Tokenizer:
    try:
        with tokenizer_faults(lambda fault: CheckpointError(f"{path}: not a readable tokenizer: {fault}")):
            return tokenizers.Tokenizer.from_buffer(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error


def _class_of(
    directory: Path, config: Options, saved: tokenizers.Tokenizer | None = None
) -> TokenizerClass | None:
    """Return the class that builds its own pipeline, or None if tokenizer.json is used as it is."""
    model = read_json_object_if_present(directory / "config.json") or read_json_object_if_present(
        directory / "mlc-chat-config.json"
    )
    declared = config.get("tokenizer_class") or model.get("tokenizer_class")
    name = _CLASS_OF_MODEL.get(model.get("model_type", ""), str(declared).removesuffix("Fast"))
    if saved is not None and not isinstance(saved.model, models.BPE):
        return None
    if saved is not None and name == "LlamaTokenizer" and _is_byte_level(saved):
        return None
    return TOKENIZER_CLASSES.get(name)


def _is_byte_level(tokenizer: tokenizers.Tokenizer) -> bool:
    """Return whether a tokenizer is byte-level. Many byte-level ones declare Llama's class, which isn't."""
    steps = (tokenizer.normalizer, tokenizer.pre_tokenizer, tokenizer.post_processor, tokenizer.decoder)
    return any(b'"ByteLevel"' in step.__getstate__() for step in steps if step is not None)


def _of_class(
    known: TokenizerClass, model: models.BPE, declared: DeclaredTokens, options: Options
) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(model)
    known.set_up(tokenizer, options)
    if known.reads_unknown and "unk_token" in declared.named:
        model.unk_token = declared.named["unk_token"].content
    declared.add_to(tokenizer)
    if known.renews_special_tokens:
        special = (*declared.named.values(), *(declared.extra or ()))
        tokenizer.add_tokens([AddedToken(token.content, special=True) for token in special])
    return tokenizer


def _surround(tokenizer: tokenizers.Tokenizer, declared: DeclaredTokens, options: Options) -> None:
    """Put a begin token before each text and an end token after it, if the options ask for them."""
    begin = declared.named.get("bos_token") if options.get("add_bos_token") else None
    end = declared.named.get("eos_token") if options.get("add_eos_token") else None
    before, after = ([f"{token.content}:0"] if token else [] for token in (begin, end))
    texts = {token.content for token in (begin, end) if token}
    tokenizer.post_processor = processors.TemplateProcessing(
        single=[*before, "$A:0", *after],
        special_tokens=[(text, tokenizer.token_to_id(text)) for text in texts],
    )

"""From the tokenizer files of a model directory to a tokenizer with the ids of transformers' AutoTokenizer.

tokenizer.json, or vocab.json and merges.txt    vocabulary and pipeline
tokenizer_config.json, config.json              the tokenizer's class and its options
the files of declared_tokens.py                 special and other added tokens
"""

from __future__ import annotations

from pathlib import Path

import tokenizers
from tokenizers import AddedToken, models, processors

from mlc_serve.errors import CheckpointError
from mlc_serve.json_object import read_json_object_if_present
from mlc_serve.text.declared_tokens import DeclaredTokens, read_declared_tokens
from mlc_serve.text.tokenizer_classes import TOKENIZER_CLASSES, Options, TokenizerClass
from mlc_serve.text.tokenizer_faults import tokenizer_faults

# Models whose tokenizers are of this class, whatever their files say.
_CLASS_OF_MODEL = {"qwen2": "Qwen2Tokenizer"}


def read_tokenizer(directory: Path) -> tokenizers.Tokenizer:
    """The tokenizer of a model directory, with all the tokens that its files declare.

    CheckpointError names the file that is missing or wrong.
    """
    config = read_json_object_if_present(directory / "tokenizer_config.json")
    path = directory / "tokenizer.json"
    saved = _read_file(path) if path.exists() else None
    known = _class_of(directory, config, saved)
    declared = read_declared_tokens(
        directory,
        config,
        listed={} if saved is None else saved.get_added_tokens_decoder(),
        defaults={**_padding_token(saved), **({} if known is None else known.named_tokens)},
    )
    if known is not None:
        tokenizer = _made_anew(known, saved, _vocabulary(directory, known, saved), declared, config)
    elif saved is not None:
        tokenizer = saved
        declared.add_to(tokenizer)
    else:
        raise CheckpointError(f"{directory}: there is no tokenizer.json")
    tokenizer.encode_special_tokens = bool(config.get("split_special_tokens"))
    return tokenizer


def _read_file(path: Path) -> tokenizers.Tokenizer:
    try:
        with tokenizer_faults(lambda fault: CheckpointError(f"{path}: not a readable tokenizer: {fault}")):
            return tokenizers.Tokenizer.from_buffer(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error


def _class_of(directory: Path, config: Options, saved: tokenizers.Tokenizer | None) -> TokenizerClass | None:
    """The class that puts a pipeline of its own around the vocabulary; None if tokenizer.json has it all."""
    model = read_json_object_if_present(directory / "config.json")
    declared = config.get("tokenizer_class") or model.get("tokenizer_class")
    name = _CLASS_OF_MODEL.get(model.get("model_type", ""), str(declared).removesuffix("Fast"))
    if saved is not None and not isinstance(saved.model, models.BPE):
        return None
    if saved is not None and name == "LlamaTokenizer" and '"ByteLevel"' in _pipeline(saved):
        return None
    return TOKENIZER_CLASSES.get(name)


def _padding_token(saved: tokenizers.Tokenizer | None) -> dict[str, str]:
    padding = None if saved is None else saved.padding
    return {} if padding is None else {"pad_token": padding["pad_token"]}


def _pipeline(tokenizer: tokenizers.Tokenizer) -> str:
    """What a tokenizer does beside its model, as JSON."""
    steps = (tokenizer.normalizer, tokenizer.pre_tokenizer, tokenizer.post_processor, tokenizer.decoder)
    return "".join(step.__getstate__().decode() for step in steps if step is not None)


def _vocabulary(directory: Path, known: TokenizerClass, saved: tokenizers.Tokenizer | None) -> models.BPE:
    if saved is not None:
        found: models.BPE = saved.model
        return found
    vocabulary, merges = directory / "vocab.json", directory / "merges.txt"
    if known.from_sentencepiece or not vocabulary.is_file() or not merges.is_file():
        raise CheckpointError(f"{directory}: there is no tokenizer.json")
    with tokenizer_faults(lambda fault: CheckpointError(f"{vocabulary}, {merges.name}: {fault}")):
        model: models.BPE = models.BPE.from_file(str(vocabulary), str(merges))
    return model


def _made_anew(
    known: TokenizerClass,
    saved: tokenizers.Tokenizer | None,
    model: models.BPE,
    declared: DeclaredTokens,
    config: Options,
) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(model)
    known.set_up(tokenizer, config)
    if known.reads_unknown and "unk_token" in declared.named:
        model.unk_token = declared.named["unk_token"].content
    declared.add_to(tokenizer)
    if known.renews_special_tokens:
        special = (*declared.named.values(), *(declared.extra or ()))
        tokenizer.add_tokens([AddedToken(token.content, special=True) for token in special])
    if saved is not None and not known.adds_begin_token:
        if saved.post_processor is not None:
            tokenizer.post_processor = saved.post_processor
    else:
        _surround(tokenizer, declared, known, {} if saved is not None else config)
    return tokenizer


def _surround(
    tokenizer: tokenizers.Tokenizer, declared: DeclaredTokens, known: TokenizerClass, options: Options
) -> None:
    """Let the tokenizer put a begin token before each text and an end token behind it, as the options ask."""
    begins = ["bos_token"] if options.get("add_bos_token", known.adds_begin_token) else []
    ends = ["eos_token"] if options.get("add_eos_token") else []
    names = {name: declared.named[name].content for name in (*begins, *ends) if name in declared.named}
    before, after = ([f"{names[name]}:0" for name in part if name in names] for part in (begins, ends))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=[*before, "$A:0", *after],
        special_tokens=[(text, tokenizer.token_to_id(text)) for text in names.values()],
    )

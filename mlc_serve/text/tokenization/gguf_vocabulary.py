"""Makes the tokenizer that the metadata of a GGUF file describes. The ids are those of the model's own
tokenizer: pre-tokenizers have a name there (`tokenizer.ggml.pre`), by which llama.cpp knows them, too.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors

from mlc_serve.errors import CheckpointError
from mlc_serve.text.tokenization.faults import tokenizer_faults
from mlc_serve.text.tokenization.tokenizer import Tokenizer

_PREFIX = "tokenizer.ggml."
# Kinds of tokens, as in SentencePiece.
_CONTROL, _USER_DEFINED = 3, 4
_ROLES = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_LLAMA3 = (
    _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def _bytes_of(pattern: str) -> pre_tokenizers.PreTokenizer:
    """Cuts a text by a pattern, and turns the pieces into bytes."""
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _gpt2() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False)


def _single_digits() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _gpt2()])


_PRE_TOKENIZERS: Mapping[str, Callable[[], pre_tokenizers.PreTokenizer]] = {
    "default": _gpt2,
    "gpt-2": _gpt2,
    "llama-bpe": lambda: _bytes_of(_LLAMA3),
    "llama3": lambda: _bytes_of(_LLAMA3),
    "qwen2": lambda: _bytes_of(_QWEN2),
    "smollm": _single_digits,
    "starcoder": _single_digits,
}
# Of these models, a piece that is a token is not composed of others, and texts begin with a token.
_LIKE_LLAMA3 = frozenset({"llama-bpe", "llama3"})
_COMPOSED = frozenset({"qwen2"})  # accents are composed with their letters before


def tokenizer_of(metadata: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer that a file's metadata describes. Raises CheckpointError, which names the key."""
    vocabulary = _Vocabulary(metadata)
    with tokenizer_faults(lambda fault: CheckpointError(f"the tokenizer can't be used: {fault}")):
        made = vocabulary.made()
        return Tokenizer(made, vocabulary.description)


class _Vocabulary:
    """The values under tokenizer.ggml."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self._values = {
            key.removeprefix(_PREFIX): value for key, value in metadata.items() if key.startswith(_PREFIX)
        }
        self._tokens = self._texts("tokens")
        self._kinds = self._values.get("token_type") or [1] * len(self._tokens)
        if not isinstance(self._kinds, list) or len(self._kinds) != len(self._tokens):
            raise CheckpointError(f"{_PREFIX}token_type has not a type for each token")

    @property
    def description(self) -> dict[str, Any]:
        """The texts of special tokens by name, and whether they are put around texts."""
        named = {name: self._named(role) for role, name in _ROLES.items()}
        return {name: text for name, text in named.items() if text is not None} | {
            "add_bos_token": self._adds("bos"),
            "add_eos_token": self._adds("eos"),
        }

    def made(self) -> tokenizers.Tokenizer:
        """The whole pipeline."""
        kind = self._values.get("model")
        if kind == "gpt2":
            made = self._byte_level()
        elif kind == "llama":
            made = self._sentencepiece()
        else:
            raise CheckpointError(
                f"{_PREFIX}model is {reprlib.repr(kind)}, which is not supported; supported: gpt2, llama"
            )
        made.add_tokens(
            [
                AddedToken(token, normalized=False, special=kind == _CONTROL)
                for token, kind in zip(self._tokens, self._kinds, strict=True)
                if kind in (_CONTROL, _USER_DEFINED)
            ]
        )
        self._surround(made)
        return made

    def _byte_level(self) -> tokenizers.Tokenizer:
        pre = self._values.get("pre", "default")
        if pre not in _PRE_TOKENIZERS:
            raise CheckpointError(
                f"{_PREFIX}pre is {reprlib.repr(pre)}, which is not supported; supported: "
                f"{', '.join(sorted(_PRE_TOKENIZERS))}"
            )
        made = tokenizers.Tokenizer(
            models.BPE(self._ids(), self._merges(), ignore_merges=pre in _LIKE_LLAMA3)
        )
        made.pre_tokenizer = _PRE_TOKENIZERS[pre]()
        made.decoder = decoders.ByteLevel()
        if pre in _COMPOSED:
            made.normalizer = normalizers.NFC()
        return made

    def _sentencepiece(self) -> tokenizers.Tokenizer:
        # This loads protobuf, which other tokenizers don't need.
        from mlc_serve.text.tokenization.sentencepiece import Pieces, SentencePieceModel  # noqa: PLC0415

        scores = self._values.get("scores")
        if not isinstance(scores, list) or len(scores) != len(self._tokens):
            raise CheckpointError(f"{_PREFIX}scores has not a score for each token")
        model = SentencePieceModel.of_pieces(
            Pieces(
                self._tokens,
                scores,
                self._kinds,
                unknown=self._named("unknown") or "<unk>",
                adds_space=bool(self._values.get("add_space_prefix", True)),
                joins_spaces=bool(self._values.get("remove_extra_whitespaces", False)),
            )
        )
        return model.tokenizer(first_only=False)

    def _surround(self, made: tokenizers.Tokenizer) -> None:
        """Put the tokens around each text that the metadata asks for."""
        before, after = (
            [text] if self._adds(role) and (text := self._named(role)) is not None else []
            for role in ("bos", "eos")
        )
        made.post_processor = processors.TemplateProcessing(
            single=[*(f"{text}:0" for text in before), "$A:0", *(f"{text}:0" for text in after)],
            special_tokens=[(text, made.token_to_id(text)) for text in {*before, *after}],
        )

    def _adds(self, role: str) -> bool:
        """Whether a token is put before or after each text. Old files don't say it."""
        is_old = self._values.get("model") == "llama" or self._values.get("pre") in _LIKE_LLAMA3
        return bool(self._values.get(f"add_{role}_token", is_old and role == "bos"))

    def _named(self, role: str) -> str | None:
        """The text of the token with a role."""
        token_id = self._values.get(f"{role}_token_id")
        if token_id is None:
            return None
        if type(token_id) is not int or not 0 <= token_id < len(self._tokens):
            raise CheckpointError(
                f"{_PREFIX}{role}_token_id is {reprlib.repr(token_id)}, which is not the id of a token"
            )
        return self._tokens[token_id]

    def _merges(self) -> list[tuple[str, str]]:
        merges = [merge.partition(" ") for merge in self._texts("merges")]
        return [(left, right) for left, _, right in merges]

    def _ids(self) -> dict[str, int]:
        return {token: token_id for token_id, token in enumerate(self._tokens)}

    def _texts(self, name: str) -> list[str]:
        values = self._values.get(name)
        if not isinstance(values, list) or not values or not all(isinstance(value, str) for value in values):
            raise CheckpointError(f"{_PREFIX}{name} is not a list of texts")
        return values

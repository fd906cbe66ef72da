"""Vocabularies that SentencePiece has trained: those of `tokenizer.model`, and those in the same terms.

The format is a protocol buffer, described in sentencepiece_model.proto of github.com/google/sentencepiece.
The file's normalization is done by steps of the tokenizers library, as in transformers 5.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tokenizers
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers

from mlc_serve.errors import CheckpointError

# Kinds of models, and of pieces.
_UNIGRAM, _BPE = 1, 2
_NORMAL, _CONTROL, _USER_DEFINED, _BYTE = 1, 3, 4, 6

# The fields of each message that matter here: number, name, type and default.
_FIELDS: Mapping[str, tuple[tuple[int, str, str, str], ...]] = {
    "Piece": ((1, "piece", "string", ""), (2, "score", "float", "0"), (3, "type", "int32", "1")),
    "Trainer": (
        (3, "model_type", "int32", "1"),
        (35, "byte_fallback", "bool", "false"),
        (40, "unk_id", "int32", "0"),
        (41, "bos_id", "int32", "1"),
        (42, "eos_id", "int32", "2"),
        (45, "unk_piece", "string", "<unk>"),
        (46, "bos_piece", "string", "<s>"),
        (47, "eos_piece", "string", "</s>"),
    ),
    "Normalizer": (
        (2, "precompiled_charsmap", "bytes", ""),
        (3, "add_dummy_prefix", "bool", "true"),
        (4, "remove_extra_whitespaces", "bool", "true"),
        (5, "escape_whitespaces", "bool", "true"),
    ),
}
_PARTS = ((1, "pieces", "Piece"), (2, "trainer", "Trainer"), (3, "normalizer", "Normalizer"))


class Pieces(NamedTuple):
    """A BPE vocabulary by its parts: texts, scores and types of the pieces, in order of their ids. A space is
    put before each text if it `adds_space`, and runs of spaces are one if it `joins_spaces`.
    """

    texts: Sequence[str]
    scores: Sequence[float]
    types: Sequence[int]
    unknown: str
    adds_space: bool
    joins_spaces: bool


class SentencePieceModel:
    """One vocabulary, as the message that such files contain."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._ids = {piece.piece: i for i, piece in enumerate(self._model.pieces)}

    @classmethod
    def read(cls, path: Path) -> SentencePieceModel:
        """Read a tokenizer.model. Raises CheckpointError if it can't be read."""
        model = _model_class()()
        try:
            model.ParseFromString(path.read_bytes())
        except OSError as error:
            raise CheckpointError(f"{path}: {error.strerror}") from error
        except DecodeError as error:
            raise CheckpointError(f"{path}: not a SentencePiece model") from error
        if not model.pieces:
            raise CheckpointError(f"{path}: not a SentencePiece model: it has no pieces")
        return cls(model)

    @classmethod
    def of_pieces(cls, pieces: Pieces) -> SentencePieceModel:
        """Make a vocabulary of its parts. Bytes of unknown characters are pieces if it has them."""
        model = _model_class()()
        for text, score, kind in zip(pieces.texts, pieces.scores, pieces.types, strict=True):
            model.pieces.add(piece=text, score=score, type=kind)
        model.trainer.model_type = _BPE
        model.trainer.byte_fallback = _BYTE in pieces.types
        model.trainer.unk_piece = pieces.unknown
        model.normalizer.add_dummy_prefix = pieces.adds_space
        model.normalizer.remove_extra_whitespaces = pieces.joins_spaces
        return cls(model)

    def bpe(self) -> models.BPE:
        """Return the pieces as a BPE model in which pieces with lower ids are merged first."""
        merges = [parts for piece in self._ids for parts in _parts_of(piece, self._ids)]
        return models.BPE(vocab=self._ids, merges=merges)

    def named_tokens(self) -> dict[str, str]:
        """Return the pieces for a text's beginning, its end and unknown text, by names like `bos_token`."""
        trainer = self._model.trainer
        names = ("bos", "eos", "unk")
        return {
            f"{name}_token": getattr(trainer, f"{name}_piece")
            for name in names
            if getattr(trainer, f"{name}_id") >= 0
        }

    def added_tokens(self, *, with_user_defined: bool) -> list[AddedToken]:
        """Return the control pieces, which are special, and with `with_user_defined` the user-defined ones.

        The pipeline of `tokenizer` finds user-defined pieces by itself; other pipelines don't.
        """
        kinds = (_CONTROL, _USER_DEFINED) if with_user_defined else (_CONTROL,)
        return [
            AddedToken(piece.piece, normalized=False, special=piece.type == _CONTROL)
            for piece in self._model.pieces
            if piece.type in kinds
        ]

    @property
    def adds_space(self) -> bool:
        """Whether a space is put before each text."""
        return bool(self._model.normalizer.add_dummy_prefix)

    def tokenizer(self, *, first_only: bool) -> tokenizers.Tokenizer:
        """Return the whole pipeline that the file describes. A space is put before every text between added
        tokens, or with `first_only` before the first text only.
        """
        tokenizer = tokenizers.Tokenizer(self._own_model())
        tokenizer.normalizer = normalizers.Sequence(list(self._normalizers(first_only)))
        steps = list(self._pre_tokenizers(first_only))
        if steps:
            tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
        tokenizer.decoder = decoders.Sequence(list(self._decoders()))
        return tokenizer

    def _own_model(self) -> models.BPE | models.Unigram:
        trainer = self._model.trainer
        if trainer.model_type == _UNIGRAM:
            scores = [(piece.piece, piece.score) for piece in self._model.pieces]
            return models.Unigram(scores, trainer.unk_id, trainer.byte_fallback)
        return models.BPE(
            vocab=self._ids,
            merges=self._merges_by_score(),
            unk_token=trainer.unk_piece,
            fuse_unk=True,
            byte_fallback=trainer.byte_fallback,
            ignore_merges=bool(self._user_defined()),
        )

    def _merges_by_score(self) -> list[tuple[str, str]]:
        normal = {piece.piece: piece.score for piece in self._model.pieces if piece.type == _NORMAL}
        ranked = [
            (-score, self._ids[piece], parts)
            for piece, score in normal.items()
            for parts in _parts_of(piece, normal)
        ]
        return [parts for _, _, parts in sorted(ranked)]

    def _user_defined(self) -> list[str]:
        """Return the user-defined pieces, the longest first."""
        pieces = (piece.piece for piece in self._model.pieces if piece.type == _USER_DEFINED)
        return sorted(pieces, key=len, reverse=True)

    def _normalizers(self, first_only: bool) -> Iterator[normalizers.Normalizer]:
        spec = self._model.normalizer
        if spec.precompiled_charsmap:
            yield normalizers.Precompiled(spec.precompiled_charsmap)
        if spec.remove_extra_whitespaces:
            yield normalizers.Replace(Regex(r"\A +| +\z"), "")
            yield normalizers.Replace(Regex(" {2,}"), " ")
        if spec.escape_whitespaces:
            yield normalizers.Replace(" ", "▁")
        if self.adds_space and not first_only:  # also before a space, where Metaspace puts none
            yield normalizers.Replace(Regex(r"\A▁"), "▁▁")

    def _pre_tokenizers(self, first_only: bool) -> Iterator[pre_tokenizers.PreTokenizer]:
        if self.adds_space:
            scheme = "first" if first_only else "always"
            yield pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
        if pieces := self._user_defined():
            yield pre_tokenizers.Split(Regex("|".join(map(re.escape, pieces))), "isolated")

    def _decoders(self) -> Iterator[decoders.Decoder]:
        yield decoders.Replace("▁", " ")
        has_bytes = self._model.trainer.byte_fallback
        if has_bytes:
            yield decoders.ByteFallback()
        if has_bytes or self.adds_space:
            yield decoders.Fuse()
        if self.adds_space:
            yield decoders.Strip(" ", 1, 0)


def _parts_of(piece: str, known: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the ways to compose a piece from two others."""
    for cut in range(1, len(piece)):
        left, right = piece[:cut], piece[cut:]
        if left in known and right in known:
            yield left, right


def _model_class() -> type[Any]:
    """Return the class of the file's message, with the fields that matter here."""
    file = descriptor_pb2.FileDescriptorProto(name="sentencepiece", package="sentencepiece", syntax="proto2")
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for number, field, kind, default in fields:
            described = message.field.add(number=number, name=field, default_value=default)
            described.type, described.label = f"TYPE_{kind.upper()}", "LABEL_OPTIONAL"
    whole = file.message_type.add(name="Model")
    for number, field, kind in _PARTS:
        described = whole.field.add(number=number, name=field, type="TYPE_MESSAGE", type_name=kind)
        described.label = "LABEL_REPEATED" if field == "pieces" else "LABEL_OPTIONAL"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found: type[Any] = message_factory.GetMessageClass(pool.FindMessageTypeByName("sentencepiece.Model"))
    return found

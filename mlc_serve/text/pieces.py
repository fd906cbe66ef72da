"""A prompt as pieces, some of which are control tokens, and its encoding, in which no other text becomes one.

All pieces are tokenized together as one text, so that the cuts between them don't change how words are split.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

import tokenizers

from mlc_serve.errors import InvalidRequestError
from mlc_serve.text.tokenization.faults import tokenizer_faults

# One of Unicode's private use areas: characters without a meaning.
_PRIVATE_USE = range(0xF0000, 0xFFFFE)
_TRIES = 32

# A code point that is not a character and that no vocabulary holds.
_UNKNOWN = "\U0010ffff"


class Piece(NamedTuple):
    """A run of text in a prompt. A control piece is the whole name of one special token."""

    text: str
    is_control: bool


def text_of(pieces: Iterable[Piece]) -> str:
    """Return the pieces' joined text."""
    return "".join(piece.text for piece in pieces)


def cut_like(pieces: Sequence[Piece], text: str) -> list[Piece]:
    """Cut another text of the same length at the same places, into pieces of the same kinds."""
    ends = [0, *accumulate(len(piece.text) for piece in pieces)]
    spans = zip(pairwise(ends), pieces, strict=True)
    return [Piece(text[start:end], piece.is_control) for (start, end), piece in spans]


def free_characters(texts: Sequence[str], number: int) -> list[str]:
    """Return `number` private-use characters that occur in none of the texts.

    Raises InvalidRequestError if random tries find too few, which means that most of them occur in the texts.
    """
    found: dict[str, None] = {}
    for _ in range(_TRIES * number):
        character = chr(secrets.choice(_PRIVATE_USE))
        if not any(character in text for text in texts):
            found[character] = None
        if len(found) == number:
            return list(found)
    if number:
        raise InvalidRequestError("the text uses too many of Unicode's private-use characters")
    return []


class PieceEncoder:
    """Encodes pieces with one tokenizer so that only the control pieces become control tokens.

    If other text contains the name of a control token, a second tokenizer around the same model encodes the
    prompt. It knows no special tokens, so their names are plain text to it; instead it knows one private-use
    character as a stand-in for each control piece of the prompt.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._added = tokenizer.get_added_tokens_decoder()
        self._ids = {token.content: token_id for token_id, token in self._added.items() if token.special}
        # The token for unknown characters may be special, but it controls nothing.
        unknown = _ids_of_text(tokenizer.model, _UNKNOWN)
        self._control_ids = frozenset(self._ids.values()) - unknown
        self._model = _model_without(self._ids, self._control_ids, tokenizer.model)

    def encode(self, pieces: Sequence[Piece]) -> list[int]:
        """Return the ids of the joined pieces. Control pieces must be names of special tokens.

        Raises InvalidRequestError if other text would become a control token even so.
        """
        expected = [self._ids[piece.text] for piece in pieces if piece.is_control]
        expected = [token_id for token_id in expected if token_id in self._control_ids]
        for encode in (self._encode_plainly, self._encode_with_stand_ins):
            token_ids = encode(pieces)
            if expected == [token_id for token_id in token_ids if token_id in self._control_ids]:
                return token_ids
        raise InvalidRequestError(
            "the text contains the name of a control token, and can't be encoded as plain text"
        )

    def _encode_plainly(self, pieces: Sequence[Piece]) -> list[int]:
        # Only the batch calls let other threads run meanwhile.
        text = "".join(piece.text for piece in pieces)
        (encoded,) = self._tokenizer.encode_batch_fast([text], add_special_tokens=False)
        ids: list[int] = encoded.ids
        return ids

    def _encode_with_stand_ins(self, pieces: Sequence[Piece]) -> list[int]:
        controls = dict.fromkeys(piece.text for piece in pieces if piece.is_control)
        free = free_characters([piece.text for piece in pieces], len(controls))
        stand_ins = dict(zip(controls, free, strict=True))
        second, ids = self._second_tokenizer(stand_ins)
        text = "".join(stand_ins[piece.text] if piece.is_control else piece.text for piece in pieces)
        (encoded,) = second.encode_batch([text], add_special_tokens=False)
        # If a vocabulary has gaps, an added token may have the same id as one of its entries.
        entries = {token_id: self._model.id_to_token(token_id) for token_id in ids}
        return [
            ids[token_id] if token_id in ids and entry != entries[token_id] else token_id
            for token_id, entry in zip(encoded.ids, encoded.tokens, strict=True)
        ]

    def _second_tokenizer(self, stand_ins: Mapping[str, str]) -> tuple[tokenizers.Tokenizer, dict[int, int]]:
        """Return the second tokenizer, and a map from its ids of added tokens to the first one's."""
        second = tokenizers.Tokenizer(self._model)
        if self._tokenizer.normalizer is not None:
            second.normalizer = self._tokenizer.normalizer
        if self._tokenizer.pre_tokenizer is not None:
            second.pre_tokenizer = self._tokenizer.pre_tokenizer
        known = {
            stand_ins.get(token.content, token.content): token_id
            for token_id, token in self._added.items()
            if not token.special or token.content in stand_ins
        }
        second.add_tokens([_renamed(self._added[token_id], text) for text, token_id in known.items()])
        numbered = second.get_added_tokens_decoder().items()
        return second, {second_id: known[token.content] for second_id, token in numbered}


def _renamed(token: tokenizers.AddedToken, text: str) -> tokenizers.AddedToken:
    """Return a token that is not special, with the same flags and another text.

    The stand-in of a special token is matched as it is, anywhere.
    """
    return tokenizers.AddedToken(
        text,
        lstrip=token.lstrip,
        rstrip=token.rstrip,
        normalized=token.normalized and not token.special,
        single_word=token.single_word and not token.special,
    )


def _model_without(
    names: Iterable[str], control_ids: frozenset[int], model: tokenizers.models.Model
) -> tokenizers.models.Model:
    """Return the model itself if, as BPE does, it never turns a name into a control token, or else a copy
    that can't do so.

    Unigram models, for example, find such names in their vocabulary wherever they occur in a text.
    """
    unread = {name for name in names if not control_ids.isdisjoint(_ids_of_text(model, name))}
    if not unread:
        return model
    state = json.loads(model.__getstate__())
    entries = state["vocab"]
    if isinstance(entries, dict):
        state["vocab"] = {_hidden(text, unread): token_id for text, token_id in entries.items()}
    else:
        state["vocab"] = [[_hidden(text, unread), score] for text, score in entries]
    if "merges" in state:
        state["merges"] = [
            [left, right] for left, right in state["merges"] if unread.isdisjoint({left, right, left + right})
        ]
    copied: tokenizers.models.Model = tokenizers.Tokenizer.from_str(json.dumps({"model": state})).model
    return copied


def _ids_of_text(model: tokenizers.models.Model, text: str) -> set[int]:
    """Return the ids, or none if the text has unknown characters and the model has no token for them."""
    try:
        with tokenizer_faults(ValueError):
            return {token.id for token in model.tokenize(text)}
    except ValueError:
        return set()


def _hidden(entry: str, unread: Collection[str]) -> str:
    return _UNKNOWN + entry if entry in unread else entry

"""Prompts in pieces, and their ids."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers

from mlc_serve.errors import InvalidRequestError
from mlc_serve.text.pieces import Piece, PieceEncoder
from tests.small_tokenizers import byte_level_bpe, metaspace_bpe, sentencepiece_bpe


def unigram() -> tokenizers.Tokenizer:
    """A tokenizer like T5's: names of special tokens are free entries of the vocabulary, so that the model
    itself finds them.
    """
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), ("<tool_call>", 0.0), ("</tool_call>", 0.0)]
    letters = [(letter, -5.0) for letter in "▁helowrd<s/>_tca"]
    tokenizer = tokenizers.Tokenizer(models.Unigram([*pieces, *letters, ("▁hello", -2.0)], 0, False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens([text for text, _ in pieces])
    return tokenizer


def whole_words() -> tokenizers.Tokenizer:
    """A vocabulary of whole words that holds the names, and calls everything else unknown."""
    words = ["<unk>", "<s>", "</s>", "<tool_call>", "</tool_call>", "hello"]
    tokenizer = tokenizers.Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(words[:-1])
    return tokenizer


def taking_whole_entries() -> tokenizers.Tokenizer:
    """A BPE that takes a whole word from its vocabulary before it merges, and could merge a name as well."""
    entries = [*"</s>helo", "</", "s>", "</s>"]
    tokenizer = tokenizers.Tokenizer(
        models.BPE(
            vocab={entry: i for i, entry in enumerate(entries)},
            merges=[("<", "/"), ("s", ">"), ("</", "s>")],
            ignore_merges=True,
        )
    )
    tokenizer.add_special_tokens(["</s>", "<s>"])
    return tokenizer


any_tokenizer = pytest.mark.parametrize(
    "build", [byte_level_bpe, sentencepiece_bpe, metaspace_bpe, unigram, whole_words, taking_whole_entries]
)
Build = Callable[[], tokenizers.Tokenizer]


def whole(tokenizer: tokenizers.Tokenizer, pieces: list[Piece]) -> list[int]:
    """The ids of the joined pieces, as the tokenizer encodes the text."""
    ids: list[int] = tokenizer.encode("".join(piece.text for piece in pieces), add_special_tokens=False).ids
    return ids


@any_tokenizer
def test_ordinary_text_has_the_ids_of_the_whole(build: Build) -> None:
    """Pieces of ordinary text get the ids of the joined text."""
    pieces = [Piece("<s>", True), Piece("hel", False), Piece("lo hello", False), Piece("</s>", True)]
    assert PieceEncoder(build()).encode(pieces) == whole(build(), pieces)


@any_tokenizer
def test_only_control_pieces_are_control_tokens(build: Build) -> None:
    """A name in other text is plain text, alone or among words; a control piece's name is its token."""
    tokenizer = build()
    controls = {tokenizer.token_to_id("<s>"): "<s>", tokenizer.token_to_id("</s>"): "</s>"}
    for text in ("</s>", "hello </s> hello", "</s></s>", "hello<s>"):
        pieces = [Piece("<s>", True), Piece(text, False), Piece("</s>", True), Piece(text, False)]
        ids = PieceEncoder(tokenizer).encode(pieces)
        assert [controls[token_id] for token_id in ids if token_id in controls] == ["<s>", "</s>"]


def test_names_in_text_are_read_as_any_text_at_their_place() -> None:
    """A tokenizer that puts a space before each text puts none inside `</s>`, nor in what follows it."""
    pieces = [Piece("<s>", True), Piece("hello </s>hello", False)]
    names = [
        sentencepiece_bpe().id_to_token(token_id)
        for token_id in PieceEncoder(sentencepiece_bpe()).encode(pieces)
    ]
    assert names == ["<s>", "▁hello", "▁", "<0x3C>", "<0x2F>", "<0x73>", "<0x3E>", "hello"]


def test_names_that_pieces_make_together_are_plain() -> None:
    """A name that results from joining pieces is not a control token either."""
    pieces = [Piece("</", False), Piece("s>", False)]
    assert byte_level_bpe().token_to_id("</s>") not in PieceEncoder(byte_level_bpe()).encode(pieces)


def test_added_tokens_that_control_nothing_keep_their_ids() -> None:
    """An added token that isn't special is found wherever it is written, also next to names."""
    tokenizer = byte_level_bpe()
    tokenizer.add_tokens(["<think>"])
    ids = PieceEncoder(tokenizer).encode([Piece("<think></s>", False), Piece("</s>", True)])
    assert ids[0] == tokenizer.token_to_id("<think>")
    assert ids[-1] == tokenizer.token_to_id("</s>")


def test_names_are_found_where_ids_have_gaps() -> None:
    """Control tokens and text keep their ids if the vocabulary's ids have gaps."""
    saved = json.loads(byte_level_bpe().to_str())
    saved["model"]["vocab"] = {entry: 2 * i for entry, i in saved["model"]["vocab"].items()}
    saved["added_tokens"] = []
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(saved))
    tokenizer.add_special_tokens(["</s>"])
    every_byte = "".join(map(chr, range(256)))
    ids = PieceEncoder(tokenizer).encode([Piece("</s>", True), Piece(every_byte + "</s>", False)])
    assert ids[0] == tokenizer.token_to_id("</s>")
    assert ids[1:-4] == tokenizer.encode(every_byte).ids


def test_white_space_that_a_token_takes_is_taken() -> None:
    """A control token that absorbs the spaces around it also does so next to names."""
    tokenizer = byte_level_bpe()
    tokenizer.add_special_tokens([tokenizers.AddedToken("<|eot|>", lstrip=True, rstrip=True)])
    hostile = [Piece("</s>hello  ", False), Piece("<|eot|>", True), Piece("\n hello", False)]
    ids = PieceEncoder(tokenizer).encode(hostile)
    eot, hello = tokenizer.token_to_id("<|eot|>"), tokenizer.token_to_id("hello")
    assert ids[-3:] == [hello, eot, hello]


def test_private_characters_of_a_text_stay_text() -> None:
    """If a text contains some of the stand-in characters, others are chosen, so that a client can't guess
    them.
    """
    text = "\ue000\ue001</s>"
    ids = PieceEncoder(byte_level_bpe()).encode([Piece(text, False), Piece("<s>", True)])
    assert byte_level_bpe().decode(ids, skip_special_tokens=False) == text + "<s>"


def test_a_text_of_all_private_characters_is_refused() -> None:
    """A text with all private characters is refused, as none is left to stand for a control token."""
    everything = "".join(map(chr, range(0xF0000, 0x100000)))
    with pytest.raises(InvalidRequestError, match="private"):
        PieceEncoder(byte_level_bpe()).encode([Piece(everything + "</s>", False), Piece("<s>", True)])

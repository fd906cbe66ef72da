"""Turning vocabulary entries into bytes."""

from __future__ import annotations

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from mlc_serve.text.tokenization.token_bytes import EntryDecoder
from tests.small_tokenizers import byte_level_bpe, metaspace_bpe, sentencepiece_bpe


def test_the_256_stand_ins_are_the_256_bytes() -> None:
    """Every byte has the character that the tokenizers library gives it."""
    entries = EntryDecoder(byte_level_bpe())
    pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)

    assert {entries.to_bytes(entry) for entry in pre_tokenizers.ByteLevel.alphabet()} == {
        bytes([i]) for i in range(256)
    }
    for character in map(chr, range(0x250)):
        ((entry, _),) = pre_tokenizer.pre_tokenize_str(character)
        assert entries.to_bytes(entry) == character.encode()


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("▁the", b" the"),
        ("▁▁", b"  "),
        ("<0x0A>", b"\n"),
        ("<0xfF>", b"\xff"),
        ("<0x0A>x", b"<0x0A>x"),
        ("é", "é".encode()),
    ],
)
def test_sentencepiece_entries(entry: str, expected: bytes) -> None:
    """Marks become spaces, byte entries become bytes, and everything else stays as it is."""
    assert EntryDecoder(sentencepiece_bpe()).to_bytes(entry) == expected
    assert EntryDecoder(sentencepiece_bpe()).added_to_bytes(entry) == expected


def test_entries_of_words_and_their_parts() -> None:
    """WordPiece puts a space before each word, but not before its further parts."""
    tokenizer = tokenizers.Tokenizer(models.WordPiece({"a": 0}, unk_token="a"))
    tokenizer.decoder = decoders.WordPiece()
    entries = EntryDecoder(tokenizer)

    assert [entries.to_bytes(entry) for entry in ("hello", "##lo", ",", "##")] == [
        b" hello",
        b"lo",
        b",",
        b"",
    ]
    assert entries.strips_leading_space


def test_entries_outside_of_the_stand_ins_are_their_own_text() -> None:
    """A byte-level entry with a space or another script, which can't stand for bytes, is its own text."""
    entries = EntryDecoder(byte_level_bpe())

    assert entries.to_bytes("a b\u00a0é") == "a b\u00a0é".encode()
    assert entries.to_bytes("東") == "東".encode()


def test_who_puts_a_space_first() -> None:
    """Of three decoders only SentencePiece's removes a leading space, and says so."""
    decoders = map(EntryDecoder, (byte_level_bpe(), sentencepiece_bpe(), metaspace_bpe()))

    assert [decoder.strips_leading_space for decoder in decoders] == [False, True, False]

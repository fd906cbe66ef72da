"""RWKV's vocabulary: texts become the longest entries, and come back byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_serve.errors import CheckpointError
from mlc_serve.text.pieces import Piece
from mlc_serve.text.tokenization.rwkv import VOCABULARY_NAME, read_rwkv_vocabulary, rwkv_tokenizer
from mlc_serve.text.tokenization.tokenizer import Tokenizer
from tests.rwkv6_checkpoints import vocabulary_lines

WORDS = [b"ab", b"abc", b"bcd", b"abcdef", "ä".encode(), "日本".encode(), "日".encode()[:2], b"\n\n", b"' \""]
ENTRIES = [bytes([byte]) for byte in range(256)] + WORDS
TOKENIZER = Tokenizer(rwkv_tokenizer({entry: i for i, entry in enumerate(ENTRIES, 1)}, "<s>"))


def longest_first(text: bytes) -> list[int]:
    """The ids of a text by the definition."""
    ids = []
    while text:
        entry = max((entry for entry in ENTRIES if text.startswith(entry)), key=len)
        ids.append(ENTRIES.index(entry) + 1)
        text = text[len(entry) :]
    return ids


@given(st.text(alphabet="abcdef ä日本月\n'\"", max_size=900))
def test_a_text_becomes_the_longest_entries(text: str) -> None:
    """At each place the longest entry is taken, and all entries together are the text."""
    ids = TOKENIZER.encode(text, add_special_tokens=True)
    assert ids == longest_first(text.encode())
    assert b"".join(map(TOKENIZER.token_bytes, ids)) == text.encode()


def test_the_end_token_is_special_only_where_it_is_meant() -> None:
    """Its name becomes id 0, but not in a piece of plain text."""
    assert TOKENIZER.encode("<s>ab", add_special_tokens=False) == [0, 257]
    assert TOKENIZER.is_special(0)
    ids = TOKENIZER.encode_pieces([Piece("<s>", is_control=True), Piece("ab<s>", is_control=False)])
    assert ids == [0, 257, *longest_first(b"<s>")]


def test_starts_count_whole_characters() -> None:
    """A token starts where the characters before it are complete."""
    assert TOKENIZER.encode_with_starts("abc日x", add_special_tokens=False)[1] == [0, 3, 3, 4]


def test_a_file_gives_its_vocabulary(tmp_path: Path) -> None:
    """Entries may be texts or bytes, with quotes and spaces in them."""
    path = tmp_path / VOCABULARY_NAME
    path.write_text("".join(vocabulary_lines(ENTRIES)), encoding="utf-8")
    assert read_rwkv_vocabulary(path) == {entry: i for i, entry in enumerate(ENTRIES, 1)}
    assert Tokenizer.from_directory(tmp_path).encode("abcd", add_special_tokens=False) == [258, 101]


@pytest.mark.parametrize(
    "line", ["0 'a' 1", "7 'a' 2", "7 a 1", "x 'a' 1", "7", "7 __import__('os') 1", "7 " + "(" * 9999]
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str) -> None:
    """A line that is anything but an id, an entry and its length is refused by its number."""
    path = tmp_path / VOCABULARY_NAME
    path.write_text(f"1 'a' 1\n{line}\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match="line 2"):
        read_rwkv_vocabulary(path)


def test_a_vocabulary_without_all_bytes_is_refused(tmp_path: Path) -> None:
    """Otherwise some text could not be encoded."""
    path = tmp_path / VOCABULARY_NAME
    path.write_text("".join(vocabulary_lines(ENTRIES[1:])), encoding="utf-8")
    with pytest.raises(CheckpointError, match="0x00"):
        read_rwkv_vocabulary(path)

"""Text to ids and back, for both families of tokenizers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tokenizers
from hypothesis import assume, given
from hypothesis import strategies as st
from tokenizers import models

from mlc_serve.errors import CheckpointError, InvalidRequestError, RequestFailedError
from mlc_serve.text.tokenization.tokenizer import Tokenizer
from tests.small_tokenizers import byte_level_bpe, metaspace_bpe, panicking, sentencepiece_bpe

BYTE_LEVEL = Tokenizer(byte_level_bpe())
SENTENCEPIECE = Tokenizer(sentencepiece_bpe())
METASPACE = Tokenizer(metaspace_bpe())

any_tokenizer = pytest.mark.parametrize(
    "tokenizer", [BYTE_LEVEL, SENTENCEPIECE, METASPACE], ids=["byte", "sp", "meta"]
)


def joined(tokenizer: Tokenizer, token_ids: list[int]) -> bytes:
    """The bytes of consecutive tokens."""
    return b"".join(map(tokenizer.token_bytes, token_ids))


@given(text=st.text())
def test_byte_level_tokens_concatenate_to_the_utf8_of_the_text(text: str) -> None:
    """Byte-level BPE loses and changes no character, except in special tokens."""
    assume(not any(special in text for special in BYTE_LEVEL.special_texts))
    ids = BYTE_LEVEL.encode(text, add_special_tokens=False)

    assert text.encode() == joined(BYTE_LEVEL, ids)
    assert text == BYTE_LEVEL.decode(ids)


@given(text=st.text())
def test_sentencepiece_tokens_concatenate_to_the_utf8_of_the_text(text: str) -> None:
    """SentencePiece loses and changes nothing but adds a space at the front. Its mark for a space comes back
    as a space.
    """
    assume(not any(special in text for special in SENTENCEPIECE.special_texts))
    ids = SENTENCEPIECE.encode(text, add_special_tokens=False)
    expected = text.replace("\u2581", " ")

    assert (b" " + expected.encode() if text else b"") == joined(SENTENCEPIECE, ids)
    assert expected == SENTENCEPIECE.decode(ids)


@pytest.mark.parametrize("library", [byte_level_bpe(), sentencepiece_bpe(), metaspace_bpe()])
@pytest.mark.parametrize("text", ["hello world", " two  spaces ", "naïve 東京 🙂", "line\nline\t"])
def test_decoding_agrees_with_the_tokenizers_library(library: tokenizers.Tokenizer, text: str) -> None:
    """Where all bytes are characters, our table gives what the library's own decoder gives."""
    ids = library.encode(text, add_special_tokens=False).ids

    assert Tokenizer(library).decode(ids) == library.decode(ids)


@any_tokenizer
def test_ids_without_an_entry_are_empty(tokenizer: Tokenizer) -> None:
    """Ids of a padded vocabulary and negative ids are not errors and have no text."""
    for token_id in (tokenizer.vocab_size, tokenizer.vocab_size + 10_000, -1):
        assert tokenizer.token_bytes(token_id) == b""
        assert tokenizer.token_text(token_id) == ""
        assert not tokenizer.is_special(token_id)


@any_tokenizer
def test_special_tokens_have_a_text_but_are_not_decoded(tokenizer: Tokenizer) -> None:
    """A special token's name becomes its id, has its name as bytes, and is skipped in decoded text."""
    ids = tokenizer.encode("</s>", add_special_tokens=False)

    assert list(map(tokenizer.is_special, ids)) == [True]
    assert tokenizer.token_bytes(ids[0]) == b"</s>"
    assert tokenizer.decode(ids) == ""


@any_tokenizer
def test_tool_call_tags_are_shown_even_if_they_are_special(tokenizer: Tokenizer) -> None:
    """Calls are found in an answer's text, so their tags are part of it even if the tokenizer says that they
    are special.
    """
    ids = tokenizer.encode("<tool_call>", add_special_tokens=False)

    assert len(ids) == 1
    assert tokenizer.decode(ids) == "<tool_call>"


def test_added_text_outside_of_ascii_is_its_own() -> None:
    """An added token "é" is UTF-8 for é, not the one byte that é stands for in byte-level entries."""
    tokenizer = byte_level_bpe()
    tokenizer.add_tokens(["é"])
    ids = Tokenizer(tokenizer).encode("é", add_special_tokens=False)

    assert "é".encode() == joined(Tokenizer(tokenizer), ids)


def test_partial_characters_show_as_replacement_in_token_text() -> None:
    """One byte of a longer character has its own byte, and the text U+FFFD."""
    first, *_ = BYTE_LEVEL.encode("🙂", add_special_tokens=False)

    assert BYTE_LEVEL.token_bytes(first) == b"\xf0"
    assert BYTE_LEVEL.token_text(first) == "\ufffd"


def test_a_begin_token_is_added_only_where_asked_for() -> None:
    """`add_special_tokens` decides whether the tokenizer's own begin token is put first."""
    plain = SENTENCEPIECE.encode("hi", add_special_tokens=False)

    assert [SENTENCEPIECE.encode("<s>", add_special_tokens=False)[0], *plain] == SENTENCEPIECE.encode(
        "hi", add_special_tokens=True
    )


def test_truncation_and_padding_of_the_file_are_switched_off() -> None:
    """A prompt is never silently cut or padded, even if the tokenizer was saved that way."""
    tokenizer = byte_level_bpe()
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=20)

    assert (
        Tokenizer(tokenizer).decode(Tokenizer(tokenizer).encode("a long prompt", add_special_tokens=False))
        == "a long prompt"
    )


def test_half_a_surrogate_pair_is_the_clients_fault() -> None:
    """JSON can contain invalid Unicode; it is refused and does not crash."""
    with pytest.raises(InvalidRequestError, match="'\\\\ud83d' at 2"):
        BYTE_LEVEL.encode("ab\ud83d", add_special_tokens=False)


def test_ids_with_gaps_have_their_texts(tmp_path: Path) -> None:
    """The size of the vocabulary follows from the highest id, not from the number of entries."""
    saved = json.loads(byte_level_bpe().to_str())
    saved["model"]["vocab"] = {entry: 5 * i for entry, i in saved["model"]["vocab"].items()}
    saved["added_tokens"] = []
    (tmp_path / "tokenizer.json").write_text(json.dumps(saved))
    tokenizer = Tokenizer.from_directory(tmp_path)
    ids = tokenizer.encode("hello w", add_special_tokens=False)

    assert max(ids) > 262
    assert tokenizer.decode(ids) == "hello w"
    assert tokenizer.vocab_size == 5 * 261 + 1


def test_a_text_that_the_library_fails_on_fails_alone() -> None:
    """A text on which the library raises or panics fails with our error, and the next text is read."""
    words = Tokenizer(tokenizers.Tokenizer(models.WordLevel({"a": 0}, unk_token="<unk>")))
    for tokenizer, text in ((words, "b"), (Tokenizer(panicking()), "a")):
        with pytest.raises(RequestFailedError, match="The model's tokenizer can't read this text"):
            tokenizer.encode(text, add_special_tokens=True)
        assert len(tokenizer.encode("a", add_special_tokens=False)) == 1


def test_a_file_that_fails_on_every_text_is_refused(tmp_path: Path) -> None:
    """The start fails with one line that names the directory."""
    panicking().save(str(tmp_path / "tokenizer.json"))

    with pytest.raises(
        CheckpointError, match=f"^{tmp_path}: The model's tokenizer can't read this text: .+$"
    ):
        Tokenizer.from_directory(tmp_path)


def test_loads_the_file_of_a_directory(tmp_path: Path) -> None:
    """from_directory reads tokenizer.json."""
    byte_level_bpe().save(str(tmp_path / "tokenizer.json"))

    assert BYTE_LEVEL.vocab_size == Tokenizer.from_directory(tmp_path).vocab_size


@pytest.mark.parametrize("content", ["", "{", "{}", '{"version": "1.0", "model": {"type": "Magic"}}'])
def test_an_unreadable_file_is_named(tmp_path: Path, content: str) -> None:
    """The start fails with one line that names the file."""
    (tmp_path / "tokenizer.json").write_text(content)

    with pytest.raises(CheckpointError, match=r"^\S+tokenizer\.json: not a readable tokenizer: .+$"):
        Tokenizer.from_directory(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The error for a directory without tokenizer.json differs from that for a broken file."""
    with pytest.raises(CheckpointError, match=r"there is no tokenizer\.json"):
        Tokenizer.from_directory(tmp_path)


def test_a_decoder_that_looks_at_neighbours_is_refused(tmp_path: Path) -> None:
    """A tokenizer whose entries have no text by themselves is refused at the start, instead of giving wrong
    text.
    """
    saved = json.loads(tokenizers.Tokenizer(models.BPE()).to_str())
    saved["decoder"] = {"type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "|", "cleanup": True}
    (tmp_path / "tokenizer.json").write_text(json.dumps(saved))

    with pytest.raises(CheckpointError, match=f"^{tmp_path}: the tokenizer's decoder is not supported: CTC"):
        Tokenizer.from_directory(tmp_path)


@any_tokenizer
@given(st.text())
def test_a_text_has_at_least_as_many_tokens_as_its_length_demands(tokenizer: Tokenizer, text: str) -> None:
    """The bound is never above the real number."""
    assert tokenizer.fewest_tokens(len(text)) <= len(tokenizer.encode(text, add_special_tokens=False))


@any_tokenizer
def test_a_long_text_is_known_to_have_many_tokens(tokenizer: Tokenizer) -> None:
    """The bound grows with the text."""
    assert tokenizer.fewest_tokens(10**6) > 10**4

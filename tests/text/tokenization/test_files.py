"""Tokenizer files of a model directory, compared with transformers, with which their authors tried them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from mlc_serve.errors import CheckpointError
from mlc_serve.text.pieces import Piece
from mlc_serve.text.tokenization.detokenizer import Detokenizer
from mlc_serve.text.tokenization.tokenizer import Tokenizer
from tests.small_tokenizers import byte_level_bpe
from tests.tokenizer_directories import DIRECTORIES, GENERIC, write_directory

TEXTS = [
    "",
    " ",
    "hello",
    "hello world",
    "  two  spaces, and more ",
    " hello\n\nworld\t\r\n",
    "naïve 東京 🙂 e\u0301 \u00a0 ﬁ",
    "1234567 12 3",
    "it's HELLO, isn't it? word words sword 東X 東x",
    "<s>hello</s> world<|im_start|>user\nhi<|im_end|>",
    "a <left> b <right> c<think> d <pad> <image><video>",
    "<begin>  x <|a|><|b|><|c|><|d|><|extra|><tag>▁x <unk>",
    "what does </s> mean?",
    "[CLS] hello [SEP] [UNK] hello12",
    "<0x41> Ġ é \x00 \u2581\u2581",
]


@pytest.mark.parametrize("name", DIRECTORIES)
def test_ids_and_texts_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    """Ids agree with and without the tokens around a text, and so do texts without special tokens."""
    DIRECTORIES[name](tmp_path / "model")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "model")
    ours = Tokenizer.from_directory(tmp_path / "model")

    for text in TEXTS:
        for surrounded in (True, False):
            ids = theirs.encode(text, add_special_tokens=surrounded)
            assert ours.encode(text, add_special_tokens=surrounded) == ids, text
            said = theirs.decode(ids, skip_special_tokens=True)
            assert ours.decode(ids) == said, text
            growing = Detokenizer(ours)
            assert "".join(growing.push([token_id]) for token_id in ids) + growing.finish() == said, text
    highest = max(theirs.get_vocab().values())
    assert ours.vocab_size == highest + 1
    specials = {token.content for token in theirs.added_tokens_decoder.values() if token.special}
    assert ours.special_texts == specials


@pytest.mark.parametrize("name", DIRECTORIES)
def test_pieces_are_read_as_one_text(name: str, tmp_path: Path) -> None:
    """Plain pieces have the ids of the whole text; next to hostile text, only control pieces are control
    tokens.
    """
    DIRECTORIES[name](tmp_path / "model")
    tokenizer = Tokenizer.from_directory(tmp_path / "model")
    names = sorted(tokenizer.special_texts)
    for text in TEXTS:
        if any(special in text for special in names):
            continue
        pieces = [Piece(text[:4], False), Piece(text[4:], False)]
        assert tokenizer.encode_pieces(pieces) == tokenizer.encode(text, add_special_tokens=False), text

    for special in names:
        text = f"hello {special}world"
        ids = tokenizer.encode_pieces([Piece(special, True), Piece(text, False), Piece(special, True)])
        without = tokenizer.encode_pieces([Piece(text, False)])
        (control,) = tokenizer.encode_pieces([Piece(special, True)])
        assert ids.count(control) - without.count(control) == 2
        assert control not in without or special in {"<unk>", "[UNK]"}


@pytest.mark.parametrize(
    ("file", "content", "fault"),
    [
        ("tokenizer_config.json", {"eos_token": 5}, "eos_token is 5, not a token"),
        ("tokenizer_config.json", {"added_tokens_decoder": [1]}, "added_tokens_decoder is"),
        (
            "tokenizer_config.json",
            {"added_tokens_decoder": {"x": {}}},
            "added_tokens_decoder: 'x' is not a token id",
        ),
        ("tokenizer_config.json", {"added_tokens_decoder": {"1": {}}}, "added_tokens_decoder.1 is"),
        ("tokenizer_config.json", {"extra_special_tokens": "x"}, "extra_special_tokens is 'x', not a list"),
        ("special_tokens_map.json", {"additional_special_tokens": [1]}, r"additional_special_tokens\.0 is 1"),
        ("added_tokens.json", {"<x>": "1"}, "'<x>': '1' is not a token id"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, file: str, content: dict[str, Any], fault: str) -> None:
    """The error is one line with the file and the key."""
    write_directory(tmp_path / "model", byte_level_bpe())
    (tmp_path / "model" / file).write_text(json.dumps(content))

    with pytest.raises(CheckpointError, match=f"^{tmp_path / 'model' / file}: {fault}"):
        Tokenizer.from_directory(tmp_path / "model")


def test_a_directory_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    """The error names a directory with vocabulary and merges only, if the tokenizer's class is unknown."""
    DIRECTORIES["vocab.json, GPT2Tokenizer"](tmp_path / "model")
    (tmp_path / "model" / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": GENERIC}))

    with pytest.raises(CheckpointError, match=f"^{tmp_path / 'model'}: there is no tokenizer.json$"):
        Tokenizer.from_directory(tmp_path / "model")


@pytest.mark.parametrize("content", [b"", b"no protocol buffer", b"bXlkYXRh 0\nIQ== 1\n"])
def test_a_file_that_is_not_sentencepieces_is_named(tmp_path: Path, content: bytes) -> None:
    """The error names a tokenizer.model in another format, such as tiktoken's."""
    (tmp_path / "tokenizer.model").write_bytes(content)

    with pytest.raises(CheckpointError, match=f"^{tmp_path / 'tokenizer.model'}: not a SentencePiece model"):
        Tokenizer.from_directory(tmp_path)

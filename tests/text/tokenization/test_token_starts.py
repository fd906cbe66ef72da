"""Where tokens start in the text that was encoded."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import tokenizers
from tokenizers import processors

from mlc_serve.text.tokenization.tokenizer import Tokenizer
from tests.small_tokenizers import byte_level_bpe, metaspace_bpe, sentencepiece_bpe


def trimming() -> tokenizers.Tokenizer:
    """A tokenizer that leaves spaces out of the spans of tokens, as GPT-2's and Llama 3's do."""
    tokenizer = byte_level_bpe()
    names = [(name, tokenizer.token_to_id(name)) for name in ("<s>", "</s>")]
    around = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=names)
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), around])
    return tokenizer


@pytest.mark.parametrize("make", [byte_level_bpe, metaspace_bpe, trimming])
@pytest.mark.parametrize("text", ["hello world", "  a\n é€b ", "</s>hello<s> é", "日本 hello"])
def test_tokens_tile_the_text(make: Callable[[], tokenizers.Tokenizer], text: str) -> None:
    """A token starts where the complete characters of those before it end, as `encode` splits the text."""
    tokenizer = Tokenizer(make())
    ids, starts = tokenizer.encode_with_starts(text, add_special_tokens=True)
    assert ids == tokenizer.encode(text, add_special_tokens=True)
    written = 0  # bytes
    given = text.encode()
    for token_id, start in zip(ids, starts, strict=True):
        assert start == _num_complete(given[:written])
        shown = tokenizer.token_bytes(token_id)
        written += len(shown) if given.startswith(shown, written) else 0


def _num_complete(text: bytes) -> int:
    return len(text.decode(errors="ignore"))


def test_what_is_added_at_the_end_starts_at_the_end() -> None:
    """An end token of the tokenizer's own has no place in the text, so it starts where the text ends."""
    _, starts = Tokenizer(trimming()).encode_with_starts("hello world", add_special_tokens=True)
    assert (starts[:3], starts[-1]) == ([0, 0, 5], 11)


def test_a_space_that_is_added_before_the_text_takes_no_place() -> None:
    """The token that it is merged into starts where the text does."""
    ids, starts = Tokenizer(sentencepiece_bpe()).encode_with_starts("hello é", add_special_tokens=True)
    assert (len(ids), starts) == (5, [0, 0, 5, 6, 6])

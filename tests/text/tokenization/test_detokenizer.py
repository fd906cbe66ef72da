"""Text decoded as it grows, compared with text decoded at once."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from mlc_serve.testing import byte_tokenizer
from mlc_serve.text.tokenization.detokenizer import Detokenizer
from mlc_serve.text.tokenization.tokenizer import Tokenizer
from tests.small_tokenizers import byte_level_bpe, sentencepiece_bpe

BYTES = byte_tokenizer()
LEARNED = Tokenizer(byte_level_bpe())
SENTENCEPIECE = Tokenizer(sentencepiece_bpe())


def streamed(tokenizer: Tokenizer, portions: list[list[int]]) -> str:
    """The whole text that a detokenizer returns for tokens that arrive in portions."""
    detokenizer = Detokenizer(tokenizer)
    return "".join(map(detokenizer.push, portions)) + detokenizer.finish()


@given(portions=st.lists(st.lists(st.integers(0, 270))))
def test_any_bytes_in_any_portions_decode_as_all_at_once(portions: list[list[int]]) -> None:
    """Portions make no difference, even with invalid or cut UTF-8, special tokens and unknown ids."""
    data = b"".join(bytes([token_id]) for portion in portions for token_id in portion if token_id < 256)

    assert data.decode(errors="replace") == streamed(BYTES, portions)


@given(text=st.text(), cuts=st.lists(st.integers(0, 40)))
def test_text_survives_any_portions(text: str, cuts: list[int]) -> None:
    """A text that was encoded comes back, wherever the stream of its tokens is cut."""
    for tokenizer in (LEARNED, SENTENCEPIECE):
        ids = tokenizer.encode(text, add_special_tokens=False)
        edges = sorted({0, len(ids), *(min(cut, len(ids)) for cut in cuts)})
        portions = [ids[start:stop] for start, stop in itertools.pairwise(edges)]

        assert tokenizer.decode(ids) == streamed(tokenizer, portions)


def test_half_a_character_waits_for_its_other_half() -> None:
    """No U+FFFD is shown for a character whose bytes are still to come."""
    detokenizer = Detokenizer(BYTES)

    assert [detokenizer.push([byte]) for byte in "🙂".encode()] == ["", "", "", "🙂"]
    assert detokenizer.finish() == ""


def test_a_character_that_stays_incomplete_is_shown_at_the_end() -> None:
    """A character that is still incomplete at the end is shown as U+FFFD."""
    detokenizer = Detokenizer(BYTES)

    assert detokenizer.push("a🙂".encode()[:3]) == "a"
    assert detokenizer.finish() == "\ufffd"


def test_special_tokens_are_shown_if_asked_for() -> None:
    """Others stay hidden, and texts that are no special tokens change nothing."""
    ids = BYTES.encode("a<|im_start|>b<|im_end|>", add_special_tokens=False)
    detokenizer = Detokenizer(BYTES, shown_special={"<|im_start|>", "a", "<none>"})
    assert detokenizer.push(ids) == "a<|im_start|>b"
    assert Detokenizer(BYTES).push(ids) == "ab"


def test_only_the_first_space_of_a_reply_is_the_tokenizers() -> None:
    """SentencePiece's space is removed once, even if the first tokens have no text; a continued text keeps
    it.
    """
    ids = SENTENCEPIECE.encode(" hello", add_special_tokens=False)
    start = SENTENCEPIECE.encode("<s>", add_special_tokens=False)[:1]

    assert streamed(SENTENCEPIECE, [[], start, ids]) == " hello"
    assert Detokenizer(SENTENCEPIECE, continues_text=True).push(ids) == "  hello"

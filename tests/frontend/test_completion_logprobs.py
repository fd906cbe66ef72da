"""Logprobs of raw completions on the wire."""

from __future__ import annotations

import json

import pytest

from mlc_serve.engine.backend import TokenLogprobs
from mlc_serve.frontend.completion_logprobs import (
    CompletionLogprobsWriter,
    WholeCompletionLogprobs,
    joined,
)
from mlc_serve.frontend.completion_prompt import Prompt
from mlc_serve.frontend.prompt_logprobs import PromptScores
from mlc_serve.protocol.replies import CompletionLogprobs
from mlc_serve.testing import EOS_ID, byte_tokenizer

TOKENIZER = byte_tokenizer()


def entries(text: bytes) -> list[TokenLogprobs]:
    """A logprob for each byte, with a space as its likeliest alternative."""
    return [TokenLogprobs(byte, -2.0, ((32, -1.0),), rank=2) for byte in text]


def test_offsets_count_characters_that_were_complete() -> None:
    """The bytes of one character have the same offset; the next character's offset is one more."""
    written = CompletionLogprobsWriter(TOKENIZER, 1).write(entries("aéb".encode()))
    assert written.text_offset == [0, 1, 1, 2]


def test_special_tokens_take_no_place() -> None:
    """Their text isn't shown."""
    writer = CompletionLogprobsWriter(TOKENIZER, 1, Prompt((EOS_ID, *b"a"), "a", (0, 0)))
    parts = [writer.first_of_prompt(EOS_ID), writer.write(entries(b"ab"))]
    whole = joined(parts)
    assert (whole.text_offset, whole.token_logprobs) == ([0, 0, 1], [None, -2.0, -2.0])
    assert whole.top_logprobs == [None, {" ": -1.0, "a": -2.0}, {" ": -1.0, "b": -2.0}]


def test_of_tokens_with_one_text_the_likeliest_is_listed() -> None:
    """Halves of characters have the same text; the better logprob counts."""
    entry = TokenLogprobs(0xC3, -3.0, ((0xC4, -1.0), (0xC5, -2.0)))
    assert CompletionLogprobsWriter(TOKENIZER, 1).write([entry]).top_logprobs == [{"\ufffd": -1.0}]


@pytest.mark.parametrize("echo", [False, True])
@pytest.mark.parametrize("text", [b"", b'"\\\n', bytes(range(256)) * 20])
def test_a_whole_choice_has_what_its_parts_have(echo: bool, text: bytes) -> None:
    """It is written in pieces, none of which is large, as JSON for tokens of all kinds."""
    prompt = Prompt((EOS_ID, *b"ab"), "ab", (0, 0, 1)) if echo else None
    scores = PromptScores()
    whole = WholeCompletionLogprobs(TOKENIZER, 1, prompt, scores)
    writer = CompletionLogprobsWriter(TOKENIZER, 1, prompt)
    parts = [writer.first_of_prompt(EOS_ID), writer.write(entries(b"ab"))] if echo else []
    scores.add(entries(b"ab"))
    whole.add(entries(text))
    pieces = list(whole.pieces())
    written = CompletionLogprobs(**json.loads("".join(pieces)))
    assert written == joined([*parts, writer.write(entries(text))])
    assert max(map(len, pieces)) < 65536

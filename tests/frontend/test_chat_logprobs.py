"""Logprobs of chat replies on the wire."""

from __future__ import annotations

import json
import math

from mlc_serve.engine.backend import TokenLogprobs
from mlc_serve.frontend.chat_logprobs import ChatLogprobsWriter
from mlc_serve.frontend.logprob_table import LOWEST, LogprobTable
from mlc_serve.protocol.replies import ChatLogprobs
from mlc_serve.testing import byte_tokenizer

TOKENIZER = byte_tokenizer()


def test_each_token_has_its_own_bytes() -> None:
    """This holds for tokens that are part of a character, too, and spaces are kept."""
    entries = [TokenLogprobs(byte, -2.0, ((32, -1.0),)) for byte in "é".encode()]
    first, second = ChatLogprobsWriter(TOKENIZER).written(entries).content
    assert (first.bytes, second.bytes) == ([0xC3], [0xA9])
    assert (first.token, first.logprob) == ("\ufffd", -2.0)
    assert (first.top_logprobs[0].token, first.top_logprobs[0].logprob) == (" ", -1.0)


def test_a_whole_choice_is_written_in_pieces() -> None:
    """No piece is large, and together they are the JSON of all tokens, whatever these are."""
    entries = [TokenLogprobs(i % 256, -i / 7, tuple((j, -j / 3) for j in range(20))) for i in range(600)]
    table = LogprobTable()
    table.add(entries)
    writer = ChatLogprobsWriter(TOKENIZER)
    pieces = list(writer.pieces(table))
    assert ChatLogprobs(**json.loads("".join(pieces))) == writer.written(entries)
    assert len(pieces) > 10
    assert max(map(len, pieces)) < 150_000


def test_no_tokens_are_an_empty_list() -> None:
    """A reply that ended at once has an empty list of logprobs."""
    assert json.loads("".join(ChatLogprobsWriter(TOKENIZER).pieces(LogprobTable()))) == {
        "content": [],
        "refusal": None,
    }


def test_what_json_does_not_know_becomes_the_lowest_number() -> None:
    """An impossible token has the logprob that OpenAI gives to such tokens."""
    entries = [TokenLogprobs(65, value) for value in (-math.inf, math.nan)]
    written = ChatLogprobsWriter(TOKENIZER).written(entries)
    assert [entry.logprob for entry in written.content] == [LOWEST, LOWEST]

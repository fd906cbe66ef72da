"""The text of one choice."""

from __future__ import annotations

from typing import Any

import pytest

from mlc_serve.engine.backend import TokenLogprobs
from mlc_serve.engine.request import FinishReason, RequestDelta
from mlc_serve.engine.sampling import SamplingParams
from mlc_serve.engine.speculation.draft_totals import DraftTotals
from mlc_serve.errors import RequestFailedError
from mlc_serve.frontend.choice import Choice, TextDelta, choices
from mlc_serve.frontend.params import GenerationParams
from mlc_serve.testing import EOS_ID, IM_END_ID, byte_tokenizer

TOKENIZER = byte_tokenizer()


def choice(*stop: str, min_tokens: int = 0) -> Choice:
    """A choice with these stop strings."""
    sampling = SamplingParams(min_tokens=min_tokens)
    (only,) = choices(1, GenerationParams(sampling=sampling, stop=stop), TOKENIZER)
    return only


def delta(tokens: bytes | tuple[int, ...] = b"", **fields: Any) -> RequestDelta:
    """The engine's delta for these tokens, including logprobs."""
    logprobs = tuple(TokenLogprobs(token_id, -1.0) for token_id in tokens)
    return RequestDelta("r", tuple(tokens), logprobs, **fields)


def feed(target: Choice, *pieces: bytes | tuple[int, ...]) -> list[TextDelta]:
    """Push the deltas one by one."""
    return [target.push(delta(piece)) for piece in pieces]


def test_character_comes_when_its_bytes_are_whole() -> None:
    """Half a character is never shown, and its tokens count in the delta in which they arrived."""
    whole = feed(choice(), *(bytes([byte]) for byte in "é€".encode()))
    assert [part.text for part in whole] == ["", "é", "", "", "€"]
    assert all(len(part.token_ids) == len(part.logprobs) == 1 for part in whole)


def test_incomplete_character_at_the_end_is_replaced() -> None:
    """Nothing that was generated is lost."""
    last = choice().push(delta("é".encode()[:1], finish_reason=FinishReason.LENGTH))
    assert (last.text, last.finish_reason) == ("\ufffd", FinishReason.LENGTH)


def test_stop_string_across_tokens_ends_the_choice() -> None:
    """None of it is shown, everything before it is, and its tokens count."""
    parts = feed(choice("lo w"), b"hel", b"lo", b" ", b"world")
    assert "".join(part.text for part in parts) == "hel"
    assert parts[-1].finish_reason is FinishReason.STOP
    assert parts[-1].token_ids == tuple(b"w")
    assert len(parts[-1].logprobs) == 1


def test_the_drafts_so_far_are_told_with_each_delta() -> None:
    """A choice that a stop string ends within its drafts has them in its last delta, as any other."""
    target, drafts = choice("lo"), DraftTotals(1, 4, 3)
    assert target.push(delta(b"h")).drafts is None
    last = target.push(delta(b"ello w", drafts=drafts))
    assert (last.finish_reason, last.drafts) == (FinishReason.STOP, drafts)
    assert choice().push(delta(b"ello w", drafts=drafts)).drafts == drafts


def test_text_held_back_for_a_stop_string_comes_at_the_end() -> None:
    """What could have begun a stop string turns out to be text."""
    target = choice("lox")
    first = target.push(delta(b"hello"))
    last = target.push(delta(b"", finish_reason=FinishReason.LENGTH))
    assert (first.text, last.text, last.finish_reason) == ("hel", "lo", FinishReason.LENGTH)


def test_stop_token_counts_and_is_not_shown() -> None:
    """Neither its text nor its logprob is shown."""
    last = choice().push(delta((*b"hi", EOS_ID), finish_reason=FinishReason.STOP, stop_token=True))
    assert (last.text, len(last.token_ids), len(last.logprobs)) == ("hi", 3, 2)


def test_stop_strings_wait_for_min_tokens() -> None:
    """A stop string that is complete too early is text; a later one ends the choice."""
    parts = feed(choice("a", min_tokens=2), b"a", b"b", b"c", b"a")
    assert [part.text for part in parts] == ["a", "b", "c", ""]
    assert [part.finish_reason for part in parts] == [None, None, None, FinishReason.STOP]


@pytest.mark.parametrize(
    ("stop", "shown"),
    [
        ("<|im_end|>", "one"),
        ("e<|im_end|>t", "on"),
        ("<|im_end|>two", "one"),
        ("\n<|im_end|>", "onetwo"),
        ("im_end", "onetwo"),
        ("net", "o"),
    ],
)
def test_the_name_of_a_special_token_counts_in_stop_strings(stop: str, shown: str) -> None:
    """It is searched but never shown. A name that no stop string contains doesn't separate the texts around
    it.
    """
    target = choice(stop)
    parts = feed(target, b"one", (IM_END_ID,), b"two")
    parts.append(target.push(delta(finish_reason=FinishReason.LENGTH)))
    stopped = FinishReason.STOP in [part.finish_reason for part in parts]
    assert ("".join(part.text for part in parts), stopped) == (shown, shown != "onetwo")


def test_the_choices_of_a_request_share_its_stop_strings() -> None:
    """Each choice is still searched by itself."""
    first, second = choices(2, GenerationParams(stop=("aab",)), TOKENIZER)
    portions = [(first, b"xaa"), (second, b"a"), (first, b"b"), (second, b"b")]
    parts = [target.push(delta(portion)) for target, portion in portions]
    assert [(part.text, part.finish_reason) for part in parts] == [
        ("x", None),
        ("", None),
        ("", FinishReason.STOP),
        ("ab", None),
    ]


def test_failed_request_raises_its_reason() -> None:
    """The client gets the engine's message."""
    with pytest.raises(RequestFailedError, match="the draw failed"):
        choice().push(delta(finish_reason=FinishReason.ERROR, error="the draw failed"))

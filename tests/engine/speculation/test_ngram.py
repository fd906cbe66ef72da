"""Drafts that repeat what a request's own tokens say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest

from mlc_serve.engine.request import Request
from mlc_serve.engine.speculation.ngram import NGram
from mlc_serve.engine.speculation.proposer import Ask
from tests.engine.bench import spec


def request(prompt: Iterable[int], output: Iterable[int] = ()) -> Request:
    """A request with these tokens."""
    made = Request(spec("a", prompt), max_length=10_000)
    made.output_ids += output
    return made


def drafts(proposer: NGram, one: Request, most: int = 8) -> list[int]:
    """What is drafted for one request."""
    (found,) = proposer.propose([Ask(one, most)])
    return list(found)


@pytest.mark.parametrize(
    ("tokens", "most", "expected"),
    [
        (b"the cat sat. the c", 4, b"at s"),
        (b"the cat sat. the c", 100, b"at sat. th"),
        (b"one two three on", 8, b"e tw"),  # two drafts for each of the two tokens that match
        (b"xyzw the cat. the dog. the", 3, b" do"),  # ". the" is longer than " the"
        (b"abcabcab", 7, b"cabcabc"),
        (b"aaaaaa", 9, b"aaaaaaaaa"),
        (b"abcdefgha", 8, b""),  # one token is too little
        (b"abcdefgh", 8, b""),
        (b"a", 8, b""),
    ],
)
def test_drafts_are_what_followed(tokens: bytes, most: int, expected: bytes) -> None:
    """They go on as the text did after the longest end that occurred before, periodically at its end: at most
    as many as asked for, and two for each token that matches.
    """
    for boundary in (1, len(tokens) // 2, len(tokens)):
        proposer = NGram()
        assert bytes(drafts(proposer, request(tokens[:boundary], tokens[boundary:]), most)) == expected


def test_the_output_is_followed_as_it_grows() -> None:
    """Tokens that were appended since the last call are searched, and a later match replaces a former one."""
    proposer, one = NGram(), request(b"say hello, ")
    assert drafts(proposer, one) == []
    one.output_ids += b"say h"
    assert bytes(drafts(proposer, one, 6)) == b"ello, "
    one.output_ids += b"i, say h"
    assert bytes(drafts(proposer, one, 2)) == b"i,"


def test_requests_are_searched_apart() -> None:
    """Nothing is drafted from the tokens of another request, and results come in the order of the asks."""
    proposer = NGram()
    one, other = request(b"a secret, a sec"), request(b"what is a sec")
    none, found = proposer.propose([Ask(other, 3), Ask(one, 3)])
    assert (list(none), bytes(found)) == ([], b"ret")


def calls_until_found(proposer: NGram, requests: Sequence[Request], most: int = 4) -> list[int]:
    """After how many calls each request gets its first drafts."""
    calls: dict[int, int] = {}
    for number in range(1, 100):
        for place, found in enumerate(proposer.propose([Ask(one, most) for one in requests])):
            if found:
                calls.setdefault(place, number)
        if len(calls) == len(requests):
            return [calls[place] for place in range(len(requests))]
    raise AssertionError("nothing is drafted")


def test_a_call_indexes_a_bounded_number_of_tokens() -> None:
    """Of long prompts, at most 1024 tokens in all are indexed at a time, and nothing is drafted from a part;
    a short prompt is not held up by long ones.
    """
    long = [*range(3000), 1, 2, 3]
    assert calls_until_found(NGram(), [request(long)]) == [3]
    assert calls_until_found(NGram(), [request(long), request(long), request([7, 8, 9, 7, 8])]) == [3, 6, 1]


def test_a_request_that_ended_is_forgotten() -> None:
    """Its tokens are indexed again if it is asked for again, and forgetting an unknown one does nothing."""
    proposer, one = NGram(), request([*range(1000), *range(1000), *range(900)])
    assert calls_until_found(proposer, [one]) == [3]
    assert calls_until_found(proposer, [one]) == [1]
    proposer.forget(one)
    proposer.forget(one)
    assert calls_until_found(proposer, [one]) == [3]

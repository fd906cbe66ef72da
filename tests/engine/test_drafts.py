"""Requests with drafts get, token by token, what they get without; and whatever ends an output ends it inside
of drafts, too.

The drafts are known: some of each pass are right, and those behind them are wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import Any

import pytest

from mlc_serve.engine.constraint import Constraint
from mlc_serve.engine.request import EngineRequest, FinishReason, Request
from mlc_serve.engine.speculation.draft_lengths import FixedLengths
from mlc_serve.engine.speculation.proposer import Ask
from mlc_serve.engine.speculation.speculation import Speculation
from mlc_serve.grammar import Grammar, Grammars
from mlc_serve.testing import EOS_ID, VOCAB_SIZE, FakeConstraint, FakeProposer, byte_tokenizer
from tests.engine.bench import Bench, oracle, spec

Outputs = Mapping[str, Sequence[int]]
Submit = Callable[[Bench], object]

LENGTH = 4
# Never written by the fake backend.
WRONG = ord("#")
PAGE = 4


def knowing(outputs: Outputs, num_right: int = LENGTH) -> FakeProposer:
    """A proposer that knows what requests will write; of the drafts of each pass, `num_right` are right. It
    is never asked for a draft that could not be kept.
    """

    def tell(request: Request, most: int) -> list[int]:
        assert 1 <= most < request.max_length - request.num_tokens
        start = len(request.output_ids)
        right = outputs[request.spec.request_id][start : start + num_right]
        return [*right, *[WRONG] * most][:most]

    return FakeProposer(tell)


def outputs_of(bench: Bench) -> Outputs:
    """What each request has written."""
    return {request_id: bench.output(request_id) for request_id in bench.deltas}


def served(submit: Submit, proposer: FakeProposer | None = None, **fields: Any) -> Bench:
    """An engine after it has served what `submit` submits, with or without drafts."""
    speculation = None if proposer is None else Speculation(proposer, FixedLengths(LENGTH))
    bench = Bench(speculation=speculation, **fields)
    submit(bench)
    bench.finish()
    return bench


def drafted(
    submit: Submit, num_right: int = LENGTH, known: Outputs | None = None, **fields: Any
) -> tuple[Bench, Bench]:
    """The same requests, served without drafts and with them. What they got is the same.

    `known` is what the proposer knows, if that is not what the requests write.
    """
    plain = served(submit, **fields)
    proposer = knowing(known or outputs_of(plain), num_right)
    bench = served(submit, proposer, **fields)
    assert_same(bench, plain)
    assert {request.spec.request_id for request in proposer.ended} == plain.deltas.keys()
    return plain, bench


def assert_same(bench: Bench, other: Bench) -> None:
    """Check that all requests got the same tokens, logprobs and ends."""
    assert outputs_of(bench) == outputs_of(other)
    assert {name: ends(bench, name) for name in bench.deltas} == {
        name: ends(other, name) for name in other.deltas
    }
    assert bench.sample("generation_tokens_total") == other.sample("generation_tokens_total")


def ends(bench: Bench, request_id: str) -> object:
    """All logprobs of a request, and how it ended."""
    deltas = bench.deltas[request_id]
    logprobs = [entry for delta in deltas for entry in delta.logprobs]
    return logprobs, bench.reasons(request_id), deltas[-1].stop_token, deltas[-1].error


def num_drafts(bench: Bench) -> list[int]:
    """How many drafts each step of each pass had."""
    return [len(step.draft_ids) for batch in bench.backend.batches for step in batch]


def num_passes(num_tokens: int, num_right: int) -> int:
    """The passes for an output of so many tokens: one for the prompt, then some tokens at a time."""
    count, left = 1, num_tokens - 1
    while left:
        left -= 1 + min(num_right, LENGTH, left - 1)
        count += 1
    return count


@pytest.mark.parametrize("num_right", range(LENGTH + 1))
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_seed_writes_the_text_of_plain_decoding(temperature: float, num_right: int) -> None:
    """With any number of right drafts, greedy or sampled. Each right draft saves a pass, the first one too,
    and the tokens and logprobs of a pass come in one delta.
    """
    _, bench = drafted(
        lambda bench: bench.submit(
            "a", b"hello", max_tokens=30, temperature=temperature, seed=7, num_top_logprobs=2
        ),
        num_right,
    )
    assert len(bench.backend.batches) == len(bench.deltas["a"]) == num_passes(30, num_right)
    assert [len(delta.logprobs) for delta in bench.deltas["a"]] == [
        len(delta.token_ids) for delta in bench.deltas["a"]
    ]


def test_requests_of_one_pass_do_not_mix() -> None:
    """Requests with other parameters and seeds, of which some have no drafts, and some wrong ones, each get
    the parameters of their own rows.
    """
    kinds: list[dict[str, Any]] = [
        {"temperature": 0.0},
        {"temperature": 1.0, "seed": 3, "num_top_logprobs": 1},
        {"temperature": 1.0, "seed": 4},
        {"temperature": 0.0, "logit_bias": {ord("e"): -100.0, ord("a"): -100.0}},
        {"temperature": 0.0, "stop_token_ids": frozenset(b"q"), "min_tokens": 9},
        {"temperature": 1.0, "seed": 5, "num_top_logprobs": 3},
    ]

    def submit(bench: Bench) -> None:
        for i, fields in enumerate(kinds):
            bench.submit(str(i), b"hello" * (i % 3 + 1), max_tokens=20 + i, **fields)

    plain = served(submit, prefill_chunk_size=64)
    know = [knowing(outputs_of(plain), num_right) for num_right in (4, 1, 2)]

    def tell(request: Request, most: int) -> Sequence[int]:
        number = int(request.spec.request_id)
        return () if number % 2 else know[number // 2].propose([Ask(request, most)])[0]

    bench = served(submit, FakeProposer(tell), prefill_chunk_size=64)
    assert_same(bench, plain)
    mixed = [[len(step.draft_ids) for step in batch] for batch in bench.backend.batches]
    assert any(0 in lengths and max(lengths) for lengths in mixed)


@pytest.mark.parametrize("place", range(1, 12))
def test_a_stop_token_inside_of_drafts_ends_the_output(place: int) -> None:
    """Nothing behind it is sent, counted or scored, though the drafts behind it are what would follow."""

    def submit(bench: Bench, **fields: Any) -> EngineRequest:
        return bench.submit("a", b"hello", max_tokens=40, temperature=1.0, num_top_logprobs=1, **fields)

    known = outputs_of(served(submit))
    stop = known["a"][place]
    if stop in known["a"][:place]:
        pytest.skip("it comes earlier")
    _, bench = drafted(lambda bench: submit(bench, stop_token_ids=frozenset({stop})), known=known)
    assert bench.output("a") == known["a"][: place + 1]
    assert bench.deltas["a"][-1].stop_token
    assert bench.reasons("a") == [FinishReason.STOP]


@pytest.mark.parametrize("max_tokens", [*range(14), None])
def test_an_output_has_no_more_tokens_than_it_may_have(max_tokens: int | None) -> None:
    """Neither past max_tokens nor past the context, even if drafts know what would follow; and no draft is
    asked for that could not be kept, so that the state never gets that long.
    """
    known = {"a": oracle(spec("a", b"0123456789", max_tokens=40), 1000)[0]}
    _, bench = drafted(
        lambda bench: bench.submit("a", b"0123456789", max_tokens=max_tokens),
        known=known,
        max_single_sequence_length=25,
    )
    assert len(bench.output("a")) == (15 if max_tokens is None else max_tokens)
    assert bench.reasons("a") == [FinishReason.LENGTH]


def test_a_stop_before_the_limit_is_a_stop() -> None:
    """If the drafts of one pass hold both the stop token and what max_tokens cuts off, the output stops."""
    known = {"a": oracle(spec("a", b"0123456789", max_tokens=40), 1000)[0]}
    stop = known["a"][3]
    assert known["a"].index(stop) == 3
    _, bench = drafted(
        lambda bench: bench.submit("a", b"0123456789", max_tokens=4, stop_token_ids=frozenset({stop})),
        known=known,
    )
    assert (bench.output("a"), bench.reasons("a")) == (known["a"][:4], [FinishReason.STOP])


def words(length: int, *, jumps: bool) -> FakeConstraint:
    """Allows a vowel and a consonant, then only `the`, again and again; complete after `length` letters."""
    allowed = [b"aeiou ", b"bcdfghjklmnpqrstvwxyz", b"t", b"h", b"e"]
    return FakeConstraint(allowed, VOCAB_SIZE, length, jumps=jumps)


@pytest.mark.parametrize("num_right", range(LENGTH + 1))
@pytest.mark.parametrize("jumps", [False, True])
@pytest.mark.parametrize("length", [11, 12, 13, 30])
def test_a_constraint_holds_inside_of_drafts(length: int, jumps: bool, num_right: int) -> None:
    """Drafts that it allows are kept, others are not, and the output ends where it is complete, though the
    drafts go on. Tokens that it forces, and those that are drafted, need no draw of their own.
    """

    def submit(bench: Bench, constraint: Constraint) -> EngineRequest:
        return bench.submit("a", b"hello", max_tokens=None, constraint=constraint)

    known = outputs_of(served(lambda bench: submit(bench, words(40, jumps=jumps))))
    plain, bench = drafted(lambda bench: submit(bench, words(length, jumps=jumps)), num_right, known)
    assert len(bench.output("a")) == length
    assert bench.reasons("a") == [FinishReason.STOP]
    assert len(bench.backend.batches) <= len(plain.backend.batches)
    if num_right and not jumps:
        assert len(bench.backend.batches) < len(plain.backend.batches)


@pytest.mark.parametrize("num_right", [0, 2, LENGTH])
def test_what_is_likely_without_a_constraint_is_no_fault(num_right: int) -> None:
    """A constraint refuses drafts that the model alone would write, wherever they violate it."""

    def submit(bench: Bench, constraint: Constraint | None = None) -> EngineRequest:
        return bench.submit("a", b"hello", max_tokens=30, constraint=constraint)

    drafted(lambda bench: submit(bench, words(30, jumps=False)), num_right, outputs_of(served(submit)))


GRAMMARS = {
    "forced": Grammar.of_schema({"const": {"name": "Ann", "age": 42}}, "schema"),
    "free": Grammar("regex", r"[a-z]{3,9}( [a-z]{2})*!", "regex"),
    "one of some": Grammar.of_choice(["yes", "yesterday", "no"], "choice"),
}


@pytest.mark.parametrize("num_right", [0, 1, LENGTH])
@pytest.mark.parametrize("grammar", GRAMMARS.values(), ids=GRAMMARS.keys())
def test_a_grammar_is_followed_by_committed_tokens_alone(grammar: Grammar, num_right: int) -> None:
    """A real grammar's matcher, which tries drafts and takes them back, writes the same text as without
    drafts: with wrong and right ones, with an end token as draft, and with drafts past its end.
    """
    grammars = Grammars(byte_tokenizer(), VOCAB_SIZE)
    stops = frozenset({EOS_ID})

    def submit(bench: Bench) -> EngineRequest:
        constraint = grammars.compile(grammar).constraint(stops, jumps=False)
        return bench.submit("a", b"hello", max_tokens=40, constraint=constraint, stop_token_ids=stops)

    plain = served(submit)
    for behind in ([EOS_ID] * 9, b"x" * 9, b"!" * 9):
        drafted(submit, num_right, known={"a": [*plain.output("a"), *behind]})


@pytest.mark.parametrize("num_spare", range(LENGTH + 1))
def test_one_sequence_at_a_time_is_drafted_for(num_spare: int) -> None:
    """With max_num_sequence 1 there are as many drafts as there are draws and tokens to spare in a pass."""

    def submit(bench: Bench) -> EngineRequest:
        return bench.submit("a", b"hello", max_tokens=20)

    for limit in ("max_draws", "prefill_chunk_size"):
        fields: dict[str, Any] = {limit: 1 + num_spare, "max_num_sequence": 1}
        _, bench = drafted(submit, **fields)
        assert max(num_drafts(bench)) == num_spare


def test_prompts_keep_their_part_of_a_pass() -> None:
    """While others wait, drafts take at most half of what decodes leave of a pass."""

    def submit(bench: Bench) -> None:
        bench.submit("first", b"hello", max_tokens=30)
        bench.submit("second", bytes(60), max_tokens=4)

    _, bench = drafted(submit, prefill_chunk_size=9)
    for batch in bench.backend.batches:
        if any(len(step.token_ids) > 1 for step in batch):
            assert sum(len(step.draft_ids) for step in batch) <= 4


def test_drafts_that_come_and_go_hold_up_no_prompt() -> None:
    """A prompt beside a stream that has drafts in every second pass is computed as soon as without drafts."""

    def passes_of_second(speculation: Speculation | None) -> int:
        bench = Bench(speculation=speculation)
        bench.submit("first", b"hello", max_tokens=58)
        bench.step(4)
        bench.submit("second", b"what now?", max_tokens=1)
        start = len(bench.backend.batches)
        while "second" not in bench.deltas:
            bench.step()
        return len(bench.backend.batches) - start

    turns = cycle([b"", b"#" * LENGTH])
    come_and_go = Speculation(FakeProposer(lambda _request, most: next(turns)[:most]), FixedLengths(LENGTH))
    assert passes_of_second(come_and_go) <= passes_of_second(None) + 1


@pytest.mark.parametrize("num_right", [0, 1, 3])
def test_preemption_changes_nothing(num_right: int) -> None:
    """With too few pages for two requests, the one that is computed again writes on where it was."""

    def submit(bench: Bench) -> None:
        bench.submit("old", b"0123456", max_tokens=24, temperature=1.0, seed=3)
        bench.submit("new", b"abcdefg", max_tokens=24, temperature=1.0, seed=4)

    _, bench = drafted(submit, num_right, num_pages=8, max_single_sequence_length=32)
    assert bench.sample("preemptions_total") > 0


@pytest.mark.parametrize("num_steps", range(1, 6))
def test_an_abort_between_passes_leaves_nothing(num_steps: int) -> None:
    """Whenever it comes, all pages are free, the request is forgotten, and the other one goes on."""
    requests = [spec(name, name.encode() * 2, max_tokens=24) for name in ("a", "b")]
    outputs = {one.request_id: oracle(one, 64)[0] for one in requests}
    proposer = knowing(outputs, num_right=2)
    bench = Bench(speculation=Speculation(proposer, FixedLengths(LENGTH)), max_recycling_sequences=0)
    for one in requests:
        bench.submit(one.request_id, one.prompt_ids, max_tokens=24)
    bench.step(num_steps)
    bench.core.abort("a")
    assert [one.spec.request_id for one in proposer.ended] == ["a"]
    bench.finish()
    assert bench.output("a") == outputs["a"][: len(bench.output("a"))]
    assert bench.output("b") == outputs["b"]
    assert bench.backend.state.num_free_pages == 64


def test_only_committed_tokens_are_found() -> None:
    """A later prompt finds the tokens that an output really has, and none of the drafts that were wrong."""
    prompt = b"01234"
    bench = Bench(speculation=Speculation(knowing({"a": []}), FixedLengths(LENGTH)))
    one = bench.submit("a", prompt, max_tokens=20)
    bench.finish()
    text = [*prompt, *bench.output("a")]
    assert bench.output("a") == oracle(one, 64)[0]
    for count in range(PAGE, len(text)):
        bench.submit(str(count), [*text[:count], *[WRONG] * LENGTH], max_tokens=0)
        bench.finish()
        assert bench.num_cached(str(count)) == count // PAGE * PAGE


@pytest.mark.parametrize("num_right", range(LENGTH + 1))
@pytest.mark.parametrize("num_prompt", [3, 4, 5, 7, 8, 9])
def test_pages_are_counted_exactly(num_prompt: int, num_right: int) -> None:
    """A request with drafts, at any place of a page, needs no more pages than its tokens fill."""
    num_pages = -(-(num_prompt + 12) // PAGE)
    _, bench = drafted(
        lambda bench: bench.submit("a", bytes(num_prompt), max_tokens=12),
        num_right,
        num_pages=num_pages,
        max_single_sequence_length=num_pages * PAGE,
        max_recycling_sequences=0,
    )
    assert bench.sample("preemptions_total") == 0
    assert bench.backend.state.num_free_pages == num_pages


@pytest.mark.parametrize("place", range(1, 8))
def test_a_draw_that_fails_inside_of_drafts_ends_the_request_there(place: int) -> None:
    """It fails after the same tokens as without drafts, with the same reason."""

    def submit(bench: Bench, fails_after: int | None = None) -> None:
        bench.backend.fail_on = set() if fails_after is None else {fails_after}
        bench.submit("a", b"hello", max_tokens=20)

    known = outputs_of(served(submit))
    _, bench = drafted(lambda bench: submit(bench, known["a"][place]), known=known)
    assert bench.reasons("a") == [FinishReason.ERROR]
    assert bench.output("a") == known["a"][: known["a"].index(known["a"][place]) + 1]

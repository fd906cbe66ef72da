"""EngineCore: each request gets exactly the output that it would get alone, and leaves nothing behind."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import accumulate

import pytest

from mlc_serve.engine.core import EngineCore
from mlc_serve.engine.metrics import EngineMetrics
from mlc_serve.engine.policy import MakePolicy
from mlc_serve.engine.prefix_cache import RadixPrefixCache
from mlc_serve.engine.request import EngineRequest, FinishReason, Request
from mlc_serve.engine.sampling import Draw, SamplingParams
from mlc_serve.engine.scheduler import Scheduler
from mlc_serve.engine.speculation.adaptive_lengths import AdaptiveLengths
from mlc_serve.engine.speculation.draft_lengths import FixedLengths
from mlc_serve.engine.speculation.ngram import NGram
from mlc_serve.engine.speculation.proposer import Proposer
from mlc_serve.engine.speculation.speculation import Speculation
from mlc_serve.engine.trace import NullTrace
from mlc_serve.testing import (
    VOCAB_SIZE,
    FakeBackend,
    FakeConstraint,
    FakeKVCache,
    FakeProposer,
    FakeRecurrentState,
    FakeWindowedState,
    FirstComeFirstServed,
    likely_letter,
)
from mlc_serve.testing.backend import State
from tests.engine.bench import Bench, limits, oracle


def guesses(rng: random.Random, window: int | None = None) -> FakeProposer:
    """Return a proposer of which many drafts are right: usually the likeliest tokens, and sometimes others.

    `window` is that of the backend's state, if it has one.
    """

    def tell(request: Request, most: int) -> list[int]:
        known, guessed = list(request.known_ids(0, request.num_tokens)), []
        for _ in range(rng.randint(0, most)):
            seen = known if window is None else [len(known), *known[-window:]]
            right = rng.random() < 0.8
            draw = Draw(SamplingParams(temperature=0.0), (), (), 0)
            guessed.append(likely_letter(seen, draw) if right else rng.choice(b"xyz"))
            known.append(guessed[-1])
        return guessed

    return FakeProposer(tell)


def guessing(rng: random.Random) -> Speculation:
    """Return a speculation with up to four drafts of `guesses`."""
    return Speculation(guesses(rng), FixedLengths(4))


def guessing_in_a_window(rng: random.Random) -> Speculation:
    """Return the same for a state that sees seven tokens."""
    return Speculation(guesses(rng, window=7), FixedLengths(4))


def adaptive(rng: random.Random) -> Speculation:
    """Return a speculation whose lengths follow a clock that advances by anything."""
    times = accumulate(iter(rng.random, 2.0))
    proposer: Proposer = guesses(rng) if rng.random() < 0.5 else NGram()
    return Speculation(proposer, AdaptiveLengths(), clock=lambda: next(times))


def nothing(_rng: random.Random) -> Speculation:
    """Return no speculation."""
    return Speculation.none()


@dataclass(frozen=True)
class Kind:
    """A kind of engine: what its state keeps, and which policy it has."""

    name: str
    state: Callable[[int], State] = lambda num_pages: FakeKVCache(4, num_pages)
    policy: MakePolicy = Scheduler
    speculation: Callable[[random.Random], Speculation] = nothing


KINDS = (
    Kind("paged"),
    Kind("drafting", speculation=guessing),
    Kind("adapting", speculation=adaptive),
    Kind("windowed", state=lambda num_pages: FakeWindowedState(4, num_pages, window=7)),
    Kind(
        "windowed, drafting",
        state=lambda num_pages: FakeWindowedState(4, num_pages, window=7),
        speculation=guessing_in_a_window,
    ),
    Kind("recurrent", state=lambda _num_pages: FakeRecurrentState(4, history=2), speculation=guessing),
    Kind("first come", policy=FirstComeFirstServed),
)


def random_bench(rng: random.Random, kind: Kind) -> Bench:
    """Return an engine with few resources. Its longest sequence fits in the cache."""
    num_pages = rng.choice([6, 8, 12, 30])
    return Bench(
        state=kind.state(num_pages),
        make_policy=kind.policy,
        speculation=kind.speculation(rng),
        max_draws=rng.choice([7, 9, 20]),
        max_num_sequence=rng.choice([1, 2, 4, 7]),
        max_single_sequence_length=rng.choice([num_pages * 4, 21]),
        prefill_chunk_size=rng.choice([1, 3, 5, 8, 32]),
        prefill_mode=rng.choice(["hybrid", "chunked"]),
        prefix_cache_mode=rng.choice(["radix", "radix", "disable"]),
        max_recycling_sequences=rng.choice([None, 0, 1, 3]),
    )


def random_request(rng: random.Random, bench: Bench, request_id: str) -> EngineRequest:
    """Return a request whose prompt shares its beginning with many others."""
    longest = bench.limits.max_single_sequence_length - 1
    stem = rng.choice([b"the same beginning of all ", b"the same beginning too", b"abcd", b""])
    prompt = (stem + bytes(rng.choices(b"xyz", k=rng.randint(1, 9))))[:longest]
    return bench.submit(
        request_id,
        prompt,
        seed=rng.randrange(100),
        namespace=rng.choice(["", "", "other"]),
        constraint=syllables(jumps=rng.random() < 0.5) if rng.random() < 0.3 else None,
        temperature=rng.choice([0.0, 1.0]),
        max_tokens=rng.choice([None, 0, 1, 5, 12]),
        stop_token_ids=frozenset(rng.choice([b"", b"ae", b"klmnop"])),
        num_prompt_logprobs=2 if rng.random() < 0.2 else None,
    )


def syllables(*, jumps: bool = False) -> FakeConstraint:
    """Allow a vowel and a consonant, then only `the`, again and again; complete after 30 letters."""
    return FakeConstraint(
        [b"aeiou ", b"bcdfghjklmnpqrstvwxyz", b"t", b"h", b"e"], VOCAB_SIZE, 30, jumps=jumps
    )


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("seed", range(60))
def test_any_mix_gives_each_request_the_oracles_tokens(seed: int, kind: Kind) -> None:
    """Whatever is submitted and aborted between any steps, each request ends once and has the tokens that it
    gets alone.
    """
    rng = random.Random(seed)
    bench = random_bench(rng, kind)
    requests: dict[str, EngineRequest] = {}
    aborted: set[str] = set()
    for _ in range(60):
        action = rng.random()
        if action < 0.3:
            requests[f"r{len(requests)}"] = random_request(rng, bench, f"r{len(requests)}")
        elif action < 0.37 and requests:
            victim = rng.choice(list(requests))
            aborted.add(victim)
            bench.core.abort(victim)
        elif bench.core.has_work:
            bench.step(rng.randint(1, 3))
    bench.finish()
    for request_id, request in requests.items():
        constraint = syllables() if request.constraint is not None else None
        tokens, reason = oracle(request, bench.limits.max_single_sequence_length, kind.state(64), constraint)
        (got,) = bench.reasons(request_id)
        if got is FinishReason.ABORT:
            assert request_id in aborted
            tokens = tokens[: len(bench.output(request_id))]
        else:
            assert got is reason
            assert_prompt_logprobs(bench, request)
            assert_found_among_its_own(bench, request, requests.values())
        assert bench.output(request_id) == tokens
        assert bench.deltas[request_id][-1].finish_reason


def test_forced_tokens_are_appended_without_draws() -> None:
    """Tokens that a constraint forces come in the delta of the draw before them and are computed in one pass,
    unless logprobs are asked for; the request ends when nothing may follow.
    """
    jumping, drawing = Bench(), Bench()
    jumping.submit("a", b"hello", constraint=syllables(jumps=True), max_tokens=None)
    drawing.submit("a", b"hello", constraint=syllables(jumps=True), max_tokens=None, num_top_logprobs=0)
    for bench in (jumping, drawing):
        bench.finish()
        assert bench.reasons("a") == [FinishReason.STOP]
        assert not bench.deltas["a"][-1].stop_token
        assert len(bench.output("a")) == 30
    assert jumping.output("a") == drawing.output("a")
    assert len(jumping.backend.batches) == 12
    assert len(drawing.backend.batches) == 30
    assert jumping.sample("forced_tokens_total") == 18
    assert jumping.sample("generation_tokens_total") == 30


def test_drafts_that_are_right_save_steps() -> None:
    """A step gives several tokens in one delta, without those that follow a stop token."""
    with_drafts, without = Bench(speculation=guessing(random.Random(1))), Bench()
    for bench in (with_drafts, without):
        bench.submit("a", b"hello", max_tokens=40)
        bench.finish()
    assert with_drafts.output("a") == without.output("a")
    assert len(with_drafts.backend.batches) < len(without.backend.batches)
    assert max(len(delta.token_ids) for delta in with_drafts.deltas["a"]) > 1
    stop = without.output("a")[7]
    for bench in (with_drafts, without):
        bench.submit("b", b"hello", max_tokens=40, stop_token_ids=frozenset({stop}))
        bench.finish()
    assert with_drafts.output("b") == without.output("b")
    assert with_drafts.sample("generation_tokens_total") == without.sample("generation_tokens_total")


def assert_found_among_its_own(
    bench: Bench, request: EngineRequest, requests: Iterable[EngineRequest]
) -> None:
    """Check that the cached part of the prompt was known to other requests of its namespace."""
    found = request.prompt_ids[: bench.deltas[request.request_id][-1].num_cached_tokens]
    known = [
        (*other.prompt_ids, *bench.output(other.request_id))
        for other in requests
        if other is not request and other.cache_namespace == request.cache_namespace
    ]
    assert not found or any(tokens[: len(found)] == found for tokens in known)


def assert_prompt_logprobs(bench: Bench, request: EngineRequest) -> None:
    """Check that all prompt tokens except the first have a logprob, once and in order, if asked for."""
    entries = [
        entry.token_id for delta in bench.deltas[request.request_id] for entry in delta.prompt_logprobs
    ]
    assert entries == (list(request.prompt_ids[1:]) if request.params.num_prompt_logprobs is not None else [])


def test_the_oracle_mix_preempts_and_hits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The random mixes do include preemption, prefix hits and eviction."""
    preempted = hit = 0.0
    evicted: list[int] = []
    release = RadixPrefixCache.evict

    def counted(cache: RadixPrefixCache) -> bool:
        if has_released := release(cache):
            evicted.append(seed)
        return has_released

    monkeypatch.setattr(RadixPrefixCache, "evict", counted)
    for seed in range(90):
        rng = random.Random(seed)
        bench = random_bench(rng, KINDS[0])
        for i in range(12):
            random_request(rng, bench, f"r{i}")
        bench.finish()
        preempted += bench.sample("preemptions_total")
        hit += bench.sample("prefix_cache_hit_tokens_total")
    assert preempted > 10
    assert hit > 100
    assert len(set(evicted)) > 10


def test_a_prompt_is_not_found_from_another_namespace() -> None:
    """A prompt that was cached in one namespace is not found from another, so that guessing is no use."""
    bench = Bench()
    found = {}
    for name, namespace in (("first", "mine"), ("guess", "yours"), ("again", "mine"), ("none", "")):
        bench.submit(name, b"a secret of two pages", namespace=namespace)
        bench.finish()
        found[name] = bench.deltas[name][-1].num_cached_tokens
    assert found == {"first": 0, "guess": 0, "again": 20, "none": 0}


def test_a_stop_token_ends_a_request_and_is_part_of_it() -> None:
    """A stop token ends a request with STOP; it is the last of token_ids and is marked."""
    bench = Bench()
    first = oracle(bench.submit("probe", b"hello"), 64)[0][0]
    bench.submit("a", b"hello", stop_token_ids=frozenset({first}))
    bench.finish()
    (delta,) = bench.deltas["a"]
    assert (delta.token_ids, delta.stop_token, delta.finish_reason) == ((first,), True, FinishReason.STOP)


def test_a_request_ends_when_it_is_as_long_as_allowed() -> None:
    """Without max_tokens a request ends when prompt and output reach max_single_sequence_length."""
    bench = Bench(max_single_sequence_length=20)
    bench.submit("a", b"0123456789", max_tokens=None)
    bench.finish()
    assert len(bench.output("a")) == 10
    assert bench.reasons("a") == [FinishReason.LENGTH]


@pytest.mark.parametrize("length", [0, 64, 1000])
def test_a_prompt_of_impossible_length_is_refused(length: int) -> None:
    """`check` refuses a prompt of no tokens, or of max_single_sequence_length or more."""
    bench = Bench(max_single_sequence_length=64)
    with pytest.raises(ValueError, match=f"{length} tokens"):
        bench.submit("a", bytes(length))
    assert not bench.core.has_work


def test_the_longest_prompt_gets_one_token() -> None:
    """A prompt one short of max_single_sequence_length is served, even where it fills the whole cache."""
    bench = Bench(num_pages=16, max_single_sequence_length=64)
    bench.submit("a", bytes(63), max_tokens=None)
    bench.finish()
    assert len(bench.output("a")) == 1


def test_a_cache_smaller_than_one_sequence_is_refused() -> None:
    """The constructor refuses a cache in which the longest sequence does not fit."""
    with pytest.raises(ValueError, match="max_single_sequence_length"):
        EngineCore(FakeBackend(num_pages=15), limits(), EngineMetrics("fake"), NullTrace())


def test_echo_computes_the_prompt_alone() -> None:
    """max_tokens 0 with prompt logprobs gives these, no token, and LENGTH, in any number of chunks."""
    bench = Bench(prefill_chunk_size=4)
    bench.submit("a", b"hello there", max_tokens=0, num_prompt_logprobs=2)
    bench.finish()
    logprobs = [entry for delta in bench.deltas["a"] for entry in delta.prompt_logprobs]
    assert [entry.token_id for entry in logprobs] == list(b"ello there")
    assert {len(entry.top) for entry in logprobs} == {2}
    assert bench.output("a") == []
    assert bench.reasons("a") == [FinishReason.LENGTH]
    assert [len(delta.prompt_logprobs) for delta in bench.deltas["a"]] == [4, 4, 2]


def test_prompt_logprobs_are_complete_in_spite_of_the_cache() -> None:
    """A request for prompt logprobs computes its whole prompt, though it is cached."""
    bench = Bench()
    bench.submit("a", b"hello there")
    bench.finish()
    bench.submit("b", b"hello there", num_prompt_logprobs=0)
    bench.finish()
    assert sum(len(delta.prompt_logprobs) for delta in bench.deltas["b"]) == 10
    assert bench.num_cached("b") == 0
    assert bench.output("a") == bench.output("b")


def test_prompt_logprobs_come_once_when_preempted() -> None:
    """A preempted request that has given its prompt logprobs does not give them again."""
    bench = Bench(num_pages=8, max_single_sequence_length=32)
    bench.submit("old", b"0123456", max_tokens=24)
    bench.submit("new", b"abcdefg", max_tokens=24, num_prompt_logprobs=0)
    bench.finish()
    assert bench.sample("preemptions_total") > 0
    assert sum(len(delta.prompt_logprobs) for delta in bench.deltas["new"]) == 6


def test_logprobs_come_with_each_token_where_asked() -> None:
    """Each token carries its own logprob and as many alternatives as asked for."""
    bench = Bench()
    bench.submit("a", b"hello", num_top_logprobs=3)
    bench.submit("b", b"hello")
    bench.finish()
    entries = [entry for delta in bench.deltas["a"] for entry in delta.logprobs]
    assert [entry.token_id for entry in entries] == bench.output("a")
    assert {len(entry.top) for entry in entries} == {3}
    assert not any(delta.logprobs for delta in bench.deltas["b"])


def test_a_failed_draw_ends_its_request_alone() -> None:
    """A failed draw ends its request with ERROR and the reason; others get their tokens."""
    bench = Bench()
    bench.backend.fail_on = {ord("!")}
    bench.submit("bad", b"oh no!")
    good = bench.submit("good", b"oh yes")
    bench.finish()
    (delta,) = bench.deltas["bad"]
    assert delta.finish_reason is FinishReason.ERROR
    assert "failed" in (delta.error or "")
    assert bench.output("good") == oracle(good, 64)[0]


def test_a_crash_of_the_backend_leaves_step() -> None:
    """`step` raises what the backend raises, because the state can no longer be trusted."""
    bench = Bench()
    bench.backend.crash_on = {ord("!")}
    bench.submit("a", b"oh no!")
    with pytest.raises(RuntimeError, match="crashes"):
        bench.step()


@pytest.mark.parametrize("num_steps", [0, 1, 3])
@pytest.mark.parametrize("reason", [FinishReason.ABORT, FinishReason.STOP])
def test_abort_ends_a_request_in_each_state(num_steps: int, reason: FinishReason) -> None:
    """Whether it waits, is in prefill or decodes, an aborted request has one last delta with the reason and
    holds no page.
    """
    bench = Bench(prefill_chunk_size=4, max_recycling_sequences=0)
    bench.submit("a", b"0123456", max_tokens=None)
    bench.step(num_steps)
    bench.core.abort("a", reason)
    bench.core.abort("a", reason)
    bench.finish()
    assert bench.reasons("a") == [reason]
    assert len(bench.output("a")) == max(0, num_steps - 1)
    assert bench.backend.state.num_free_pages == 64


def test_abort_of_an_unknown_request_does_nothing() -> None:
    """Aborting an unknown request, such as one that has already ended, does nothing."""
    bench = Bench()
    bench.core.abort("nobody")
    assert not bench.core.has_work


def test_an_aborted_requests_tokens_are_cached() -> None:
    """A later request reuses what an aborted one has computed."""
    bench = Bench()
    bench.submit("a", b"0123456789", max_tokens=None)
    bench.step()
    bench.core.abort("a")
    bench.finish()
    bench.submit("b", b"0123456789")
    bench.finish()
    assert bench.num_cached("b") == 8


def test_the_token_drawn_last_is_not_taken_for_computed() -> None:
    """Of 4 prompt and 4 output tokens 7 are computed: one full page, although 8 tokens are known."""
    bench = Bench()
    bench.submit("a", b"0123", max_tokens=4)
    bench.finish()
    bench.submit("b", [*b"0123", *bench.output("a"), 1])
    bench.finish()
    assert bench.num_cached("b") == 4


def test_reset_ends_all_and_forgets_the_cache() -> None:
    """After a reset all requests have ended with ABORT, all pages are free and nothing is found."""
    bench = Bench()
    bench.submit("done", b"0123456789")
    bench.finish()
    bench.submit("a", b"0123456789")
    bench.step()
    bench.core.reset()
    bench.finish()
    assert bench.reasons("a") == [FinishReason.ABORT]
    assert bench.backend.state.num_free_pages == 64
    bench.submit("b", b"0123456789")
    bench.finish()
    assert bench.num_cached("b") == 0


def test_a_lost_page_is_noticed_when_idle() -> None:
    """If pages are neither held nor free when the last request ends, step raises RuntimeError."""
    bench = Bench()
    bench.submit("a", b"0123", max_tokens=1)
    bench.backend.state.add_sequence(99)
    bench.backend.state.append(99, b"x")
    with pytest.raises(RuntimeError, match="pages are free"):
        bench.step()

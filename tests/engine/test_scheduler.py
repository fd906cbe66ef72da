"""Scheduler: which requests compute how much, seen in the batches that reach the backend."""

from __future__ import annotations

import pytest

from mlc_serve.engine.pacing import Pacing
from mlc_serve.engine.prefix_cache import NoPrefixCache
from mlc_serve.engine.request import FinishReason, Request
from mlc_serve.engine.scheduler import Scheduler
from mlc_serve.engine.sequence_pool import SequencePool
from mlc_serve.engine.speculation.speculation import Speculation
from mlc_serve.engine.trace import EventTrace
from mlc_serve.testing import FakeKVCache
from tests.engine.bench import Bench, limits, oracle, spec


def test_hybrid_puts_decodes_first_and_fills_up_with_prompts() -> None:
    """A running request gets its one token in every step, and a long prompt gets the rest of the budget."""
    bench = Bench(prefill_chunk_size=8)
    bench.submit("short", b"abc", max_tokens=10)
    bench.step(2)
    bench.submit("long", bytes(20), max_tokens=1)
    batches = []
    for _ in range(3):
        bench.step()
        batches.append(bench.batch)
    assert batches == [[1, 7], [1, 7], [1, 6]]


def test_chunked_lets_decodes_wait_for_prompts() -> None:
    """While a prompt can be computed, the batch has only prompts."""
    bench = Bench(prefill_chunk_size=8, prefill_mode="chunked")
    bench.submit("short", b"abc", max_tokens=10)
    bench.step()
    bench.submit("long", bytes(20), max_tokens=3)
    batches = []
    for _ in range(4):
        bench.step()
        batches.append(bench.batch)
    assert batches == [[8], [8], [4], [1, 1]]


def test_chunked_decodes_when_the_waiting_prompt_does_not_fit() -> None:
    """A prompt that has to wait for pages does not keep others from decoding."""
    bench = Bench(num_pages=8, max_single_sequence_length=32, prefill_mode="chunked")
    bench.submit("a", bytes(12), max_tokens=5)
    bench.step()
    bench.submit("b", bytes(range(20)), max_tokens=1)
    bench.step()
    assert bench.batch == [1]
    bench.finish()
    assert bench.reasons("b") == [FinishReason.LENGTH]


def test_several_prompts_share_a_step() -> None:
    """The budget of a step goes to one prompt after another until it is spent."""
    bench = Bench(prefill_chunk_size=10)
    for request_id, prompt in {"a": b"aaaa", "b": b"bbbb", "c": b"cccc"}.items():
        bench.submit(request_id, prompt)
    bench.step()
    assert bench.batch == [4, 4, 2]


def test_scored_prompts_leave_room_in_a_step() -> None:
    """Tokens whose logprobs are wanted have a budget of their own, which prompts share."""
    bench = Bench(prefill_chunk_size=12, max_scored_tokens=4)
    bench.submit("a", b"a" * 10, max_tokens=1, num_prompt_logprobs=0)
    bench.submit("b", b"b" * 10, max_tokens=1, num_prompt_logprobs=0)
    bench.step()
    assert sum(bench.batch) == 4
    bench.submit("plain", b"c" * 20, max_tokens=1)
    bench.step()
    assert sum(bench.batch) == 12
    bench.finish()
    assert [bench.output(name) for name in ("a", "b")] == [
        oracle(spec(name, name.encode() * 10, max_tokens=1), 64)[0] for name in ("a", "b")
    ]


def test_a_short_prompt_takes_a_free_place_beside_long_ones() -> None:
    """While enough sequences and pages remain for the first in line, any number of short prompts start before
    it.
    """
    bench = Bench(num_pages=64, prefill_chunk_size=16)
    for i in range(3):
        bench.submit(f"long{i}", bytes([i]) * 40, max_tokens=1)
    for i in range(3):
        bench.submit(f"short{i}", bytes([10 + i]), max_tokens=1)
    bench.step()
    assert list(bench.deltas) == ["short0", "short1", "short2"]
    assert bench.batch == [1, 1, 1, 13]


def test_prompts_with_the_least_left_get_half_of_a_step() -> None:
    """Half of the budget goes to the oldest prompt although others are shorter; of equal ones the older goes
    first.
    """
    bench = Bench(prefill_chunk_size=16)
    bench.submit("long", bytes(40), max_tokens=1)
    for request_id in "abcd":
        bench.submit(request_id, request_id.encode() * 4, max_tokens=1)
    bench.step()
    assert bench.batch == [4, 4, 8]
    assert list(bench.deltas) == ["a", "b"]
    bench.step()
    assert bench.batch == [4, 4, 8]
    assert list(bench.deltas) == ["a", "b", "c", "d"]


def test_a_short_prompt_behind_a_burst_has_its_token_after_one_step() -> None:
    """A prompt of five tokens behind 32 prompts of 128 is computed in the next step."""
    bench = Bench(
        num_pages=2048,
        max_num_sequence=64,
        max_single_sequence_length=256,
        max_total_sequence_length=8192,
        prefill_chunk_size=1024,
    )
    for i in range(32):
        bench.submit(f"long{i}", bytes([i]) * 128, max_tokens=1)
    bench.step()
    bench.submit("short", b"short", max_tokens=1)
    bench.step()
    assert bench.reasons("short") == [FinishReason.LENGTH]


@pytest.mark.parametrize("mode", ["hybrid", "chunked"])
@pytest.mark.parametrize("max_num_sequence", [1, 2, 8])
@pytest.mark.parametrize("num_pages", [16, 64])
def test_no_prompt_starves(mode: str, max_num_sequence: int, num_pages: int) -> None:
    """A long prompt among an endless series of shorter ones is served within a bound that depends on its
    length.
    """
    bench = Bench(num_pages=num_pages, max_num_sequence=max_num_sequence, prefill_mode=mode)
    bench.submit("before", b"running", max_tokens=8)
    bench.step()
    bench.submit("long", bytes(range(100, 160)), max_tokens=1)
    num_steps = 0
    while "long" not in bench.deltas:
        for i in range(3):
            bench.submit(f"short{num_steps}.{i}", bytes([num_steps, i, 1]), max_tokens=3)
        bench.step()
        num_steps += 1
        assert num_steps < 40
    bench.finish()


def test_the_latest_gives_way_and_resumes() -> None:
    """When no page is free for a decode, the request that arrived last is preempted. It ends with the tokens
    that it would have got.
    """
    bench = Bench(num_pages=8, max_single_sequence_length=32)
    requests = [bench.submit(name, name.encode() * 3, max_tokens=20) for name in ("aa", "bb", "cc")]
    bench.finish()
    assert bench.sample("preemptions_total") > 0
    for request in requests:
        assert bench.output(request.request_id) == oracle(request, 32)[0]


def test_the_oldest_is_never_preempted() -> None:
    """The request that arrived first decodes in each step, however few pages there are."""
    bench = Bench(num_pages=8, max_single_sequence_length=32)
    bench.submit("first", b"0", max_tokens=30)
    for i in range(5):
        bench.submit(f"r{i}", f"prompt {i}".encode(), max_tokens=20)
    bench.step(30)
    assert bench.reasons("first") == [FinishReason.LENGTH]
    bench.finish()


def test_a_preempted_request_goes_before_those_that_wait() -> None:
    """A preempted request is the next to be admitted, even before shorter ones."""
    trace = EventTrace()
    bench = Bench(num_pages=6, max_single_sequence_length=24, max_num_sequence=2, trace=trace)
    bench.submit("a", b"aaaa", max_tokens=18)
    bench.submit("b", b"bbbb", max_tokens=18)
    bench.submit("c", b"cccc", max_tokens=2)
    bench.finish()
    events = [(event["name"].split()[0], event["tid"]) for event in trace.dump() or []]
    later = events[events.index(("preempt", "b")) :]
    assert [event for event in later if event[0] == "prefill"][:2] == [("prefill", "b"), ("prefill", "c")]


def test_resumption_finds_what_others_hold() -> None:
    """A preempted request that shares its prompt with a running one recomputes only the rest."""
    bench = Bench(num_pages=8, max_single_sequence_length=32)
    bench.submit("a", b"0123456789ab", max_tokens=16)
    bench.submit("b", b"0123456789ab", max_tokens=16)
    bench.finish()
    assert bench.sample("preemptions_total") > 0
    assert bench.num_cached("b") == 8
    assert bench.output("a") == bench.output("b")


def stuck(mode: str, newer_is_decoding: bool) -> tuple[Scheduler, Request, Request]:
    """Return two running requests that fill 4 pages, two each. The older one is still in prefill."""
    pool = SequencePool(FakeKVCache(4, 4))
    scheduler = Scheduler(limits(prefill_mode=mode), pool, NoPrefixCache(pool), Pacing(), Speculation.none())
    older = Request(spec("older", bytes(12), arrival=1.0), max_length=16)
    newer = Request(spec("newer", bytes(8 if newer_is_decoding else 12), arrival=2.0), max_length=16)
    newer.output_ids += [1] * newer_is_decoding
    for request in (older, newer):
        request.start(pool.add())
        request.num_computed = 8
        pool.grow(request.held_seq_id, 8)
        scheduler.running.append(request)
    return scheduler, older, newer


@pytest.mark.parametrize("mode", ["hybrid", "chunked"])
@pytest.mark.parametrize("newer_is_decoding", [False, True])
def test_there_is_always_something_to_run(mode: str, newer_is_decoding: bool) -> None:
    """When no request has a page to go on, the one that arrived last is preempted and the oldest goes on in
    the same plan.
    """
    scheduler, older, newer = stuck(mode, newer_is_decoding)
    plan = scheduler.plan()
    assert [(entry.request, entry.num_tokens) for entry in plan.entries] == [(older, 4)]
    assert plan.preempted == [newer]
    assert (newer.seq_id, newer.num_computed) == (None, 0)
    assert list(scheduler.waiting) == [newer]

"""Scheduler: who computes how much, seen in the batches that reach the backend."""

from __future__ import annotations

import pytest

from mlc_serve.engine.prefix_cache import NoPrefixCache
from mlc_serve.engine.request import FinishReason, Request
from mlc_serve.engine.scheduler import Scheduler
from mlc_serve.engine.sequence_pool import SequencePool
from mlc_serve.engine.trace import EventTrace
from mlc_serve.testing import FakeKVCache
from tests.engine.bench import Bench, limits, oracle, spec


def test_hybrid_puts_decodes_first_and_fills_up_with_prompts() -> None:
    """A running request gets its one token in every step, and a long prompt what is left of the budget."""
    bench = Bench(prefill_chunk_size=8)
    bench.submit("short", b"abc", max_tokens=10)
    bench.step()
    bench.submit("long", bytes(20), max_tokens=1)
    batches = []
    for _ in range(3):
        bench.step()
        batches.append(bench.batch)
    assert batches == [[1, 7], [1, 7], [1, 6]]


def test_chunked_lets_decodes_wait_for_prompts() -> None:
    """While there is a prompt to work on, the batch holds prompts only."""
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
    """The budget of a step goes to prompts in turn, until it is spent."""
    bench = Bench(prefill_chunk_size=10)
    for request_id, prompt in {"a": b"aaaa", "b": b"bbbb", "c": b"cccc"}.items():
        bench.submit(request_id, prompt)
    bench.step()
    assert bench.batch == [4, 4, 2]


def test_no_more_run_than_max_num_sequence() -> None:
    """The third of three requests waits until one of the first two has ended."""
    bench = Bench(max_num_sequence=2)
    for request_id in "abc":
        bench.submit(request_id, request_id.encode(), max_tokens=2)
    bench.step()
    assert bench.batch == [1, 1]
    assert bench.sample("requests_waiting") == 1
    bench.finish()
    assert bench.reasons("c") == [FinishReason.LENGTH]


def test_no_more_run_than_a_step_has_tokens() -> None:
    """With fewer tokens a step than sequences allowed, each running request still decodes in each step."""
    bench = Bench(prefill_chunk_size=2)
    for request_id in "abc":
        bench.submit(request_id, request_id.encode(), max_tokens=3)
    bench.step(2)
    assert bench.batch == [1, 1]
    assert bench.sample("requests_running") == 2


def test_a_prompt_is_admitted_when_it_exactly_fits() -> None:
    """8 pages take a prompt of 3 pages and a page to grow beside one of 4 pages; they don't take one of 4."""
    fits = Bench(num_pages=8, max_single_sequence_length=32, prefill_chunk_size=64)
    fits.submit("a", bytes(16), max_tokens=1)
    fits.submit("b", bytes(range(50, 62)), max_tokens=8)
    fits.step()
    assert fits.batch == [16, 12]
    too_long = Bench(num_pages=8, max_single_sequence_length=32, prefill_chunk_size=64)
    too_long.submit("a", bytes(16), max_tokens=1)
    too_long.submit("b", bytes(range(50, 63)), max_tokens=8)
    too_long.step()
    assert too_long.batch == [16]


def test_a_page_to_grow_is_not_asked_of_what_can_not_grow() -> None:
    """A request that ends within its last page needs no other one."""
    bench = Bench(num_pages=8, max_single_sequence_length=32, prefill_chunk_size=64)
    bench.submit("a", bytes(16), max_tokens=1)
    bench.submit("b", bytes(range(50, 65)), max_tokens=1)
    bench.step()
    assert bench.batch == [16, 15]


def test_admission_leaves_what_running_prompts_still_need() -> None:
    """A prompt that is computed in chunks keeps its claim on pages that it has not filled yet."""
    bench = Bench(num_pages=8, max_single_sequence_length=32, prefill_chunk_size=12)
    bench.submit("a", bytes(20), max_tokens=4)
    bench.step()
    bench.submit("b", bytes(range(50, 60)), max_tokens=4)
    bench.step()
    assert bench.batch == [8]


def test_first_come_first_served() -> None:
    """A small request does not overtake a large one that has to wait for pages."""
    bench = Bench(num_pages=8, max_single_sequence_length=32)
    bench.submit("a", bytes(16), max_tokens=6)
    bench.step()
    bench.submit("large", bytes(range(50, 70)), max_tokens=1)
    bench.submit("small", b"x", max_tokens=1)
    bench.step()
    assert bench.batch == [1]
    bench.finish()
    order = [request_id for request_id in bench.deltas if request_id != "a"]
    assert order == ["large", "small"]


def test_the_latest_gives_way_and_resumes() -> None:
    """When a decode finds no page the request that came last is preempted; it ends with the tokens it would
    have got.
    """
    bench = Bench(num_pages=8, max_single_sequence_length=32)
    requests = [bench.submit(name, name.encode() * 3, max_tokens=20) for name in ("aa", "bb", "cc")]
    bench.finish()
    assert bench.sample("preemptions_total") > 0
    for request in requests:
        assert bench.output(request.request_id) == oracle(request, 32)[0]


def test_the_oldest_is_never_preempted() -> None:
    """The request that came first decodes in each step, however scarce pages are."""
    bench = Bench(num_pages=8, max_single_sequence_length=32)
    bench.submit("first", b"0", max_tokens=30)
    for i in range(5):
        bench.submit(f"r{i}", f"prompt {i}".encode(), max_tokens=20)
    bench.step(30)
    assert bench.reasons("first") == [FinishReason.LENGTH]
    bench.finish()


def test_a_preempted_request_goes_before_those_that_wait() -> None:
    """Preempted means the next to be admitted, not the last."""
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
    """A preempted request that shares its prompt with a running one computes only the rest again."""
    bench = Bench(num_pages=8, max_single_sequence_length=32)
    bench.submit("a", b"0123456789ab", max_tokens=16)
    bench.submit("b", b"0123456789ab", max_tokens=16)
    bench.finish()
    assert bench.sample("preemptions_total") > 0
    assert bench.num_cached("b") == 8
    assert bench.output("a") == bench.output("b")


def test_siblings_wait_for_the_first_to_compute_their_prompt() -> None:
    """Eight requests with one prompt compute it once."""
    bench = Bench(num_pages=64, prefill_chunk_size=32)
    for i in range(8):
        bench.submit(f"r{i}", b"the same long prompt!", max_tokens=2)
    bench.step()
    assert bench.batch == [21]
    bench.step()
    assert bench.batch == [1] * 8
    bench.finish()
    assert [bench.num_cached(f"r{i}") for i in range(8)] == [0] + [20] * 7


def test_a_held_back_request_does_not_hold_up_others() -> None:
    """A request of another prompt overtakes siblings that are held back."""
    bench = Bench(prefill_chunk_size=12)
    bench.submit("a", b"the same long prompt!", max_tokens=1)
    bench.submit("sibling", b"the same long prompt!", max_tokens=1)
    bench.step()
    bench.submit("other", b"unlike", max_tokens=1)
    bench.step()
    assert bench.batch == [9, 3]
    bench.finish()
    assert (bench.num_cached("sibling"), bench.num_cached("other")) == (20, 0)


def test_siblings_go_on_as_soon_as_their_common_part_is_computed() -> None:
    """What is held back for a page goes on when that page is there, though the other prompt is longer."""
    bench = Bench(prefill_chunk_size=8)
    bench.submit("long", b"head" + bytes(24), max_tokens=1)
    bench.submit("short", b"head and tail", max_tokens=1)
    bench.step()
    assert bench.batch == [8]
    bench.step(4)
    assert bench.num_cached("short") == 4


def test_nobody_is_held_back_without_a_prefix_cache() -> None:
    """Where nothing will be shared there is nothing to wait for."""
    bench = Bench(prefix_cache_mode="disable")
    for request_id in "ab":
        bench.submit(request_id, b"same it")
    bench.step()
    assert bench.batch == [7, 7]


def test_a_hit_leaves_the_last_token() -> None:
    """A prompt that is cached as a whole is found up to the page before its last token, whose logits are
    needed.
    """
    bench = Bench()
    bench.submit("a", b"01234567", max_tokens=4)
    bench.finish()
    bench.submit("b", b"01234567", max_tokens=4)
    bench.step()
    assert bench.batch == [4]
    bench.finish()
    assert bench.num_cached("b") == 4
    assert bench.output("a") == bench.output("b")


def test_cached_sequences_make_room_for_prompts() -> None:
    """Recycled sequences are evicted when a prompt needs their pages, and only as many as it needs."""
    bench = Bench(num_pages=16)
    for request_id in "abc":
        bench.submit(request_id, request_id.encode() * 16, max_tokens=1)
    bench.finish()
    bench.submit("large", bytes(31), max_tokens=1)
    bench.finish()
    assert bench.sample("preemptions_total") == 0
    bench.submit("c2", b"c" * 16, max_tokens=1)
    bench.submit("a2", b"a" * 16, max_tokens=1)
    bench.finish()
    assert (bench.num_cached("c2"), bench.num_cached("a2")) == (12, 0)


def test_a_prompt_that_can_not_fit_evicts_nothing() -> None:
    """While a prompt waits for running requests to end, the cache stays as it is."""
    bench = Bench(num_pages=16)
    bench.submit("cached", b"c" * 16, max_tokens=1)
    bench.finish()
    bench.submit("running", bytes(24), max_tokens=8)
    bench.step(2)
    bench.submit("large", bytes(range(60)), max_tokens=1)
    bench.step()
    assert bench.batch == [1]
    bench.core.abort("large")
    bench.submit("again", b"c" * 16, max_tokens=1)
    bench.finish()
    assert bench.num_cached("again") == 12


def test_admission_leaves_a_page_for_decodes_that_wait() -> None:
    """A decode that comes after prompts in the same plan finds its page: a prompt that would take it has to
    wait.
    """
    bench = Bench(num_pages=8, max_single_sequence_length=32, prefill_chunk_size=64, prefill_mode="chunked")
    bench.submit("a", bytes(16), max_tokens=4)
    bench.step()
    bench.submit("b", bytes(range(50, 62)), max_tokens=8)
    bench.step()
    assert bench.batch == [1]
    bench.finish()
    assert bench.sample("preemptions_total") == 0


def test_a_hit_on_an_ended_sequence_takes_its_pages() -> None:
    """Cached pages that a request would share can't be evicted for it as well: 6 pages beside 3 of 8 don't
    fit.
    """
    bench = Bench(num_pages=8, max_single_sequence_length=32, prefill_chunk_size=32)
    bench.submit("cached", b"c" * 16, max_tokens=1)
    bench.finish()
    bench.submit("running", b"012345678", max_tokens=4)
    bench.step()
    bench.submit("b", b"c" * 16 + b"x", max_tokens=8)
    bench.step()
    assert bench.batch == [1]
    bench.finish()
    assert bench.num_cached("b") == 16


def test_a_hit_keeps_a_sequence_from_eviction() -> None:
    """Of three cached sequences the one that was hit last outlives the one that is older only by that."""
    bench = Bench(num_pages=16)
    for request_id in ("a", "b", "c", "a again"):
        bench.submit(request_id, request_id[:1].encode() * 16, max_tokens=1)
        bench.finish()
    bench.submit("large", bytes(31), max_tokens=1)
    bench.finish()
    bench.submit("a2", b"a" * 16, max_tokens=1)
    bench.submit("b2", b"b" * 16, max_tokens=1)
    bench.finish()
    assert (bench.num_cached("a2"), bench.num_cached("b2")) == (12, 0)


def test_those_held_back_keep_their_place() -> None:
    """When the prompt that it waits for is computed, a held-back request goes before those that came after
    it.
    """
    bench = Bench(prefill_chunk_size=24, max_num_sequence=3)
    bench.submit("a", b"the same long prompt!", max_tokens=1)
    for request_id in ("s1", "s2"):
        bench.submit(request_id, b"the same long prompt!", max_tokens=1)
    for request_id in ("x1", "x2", "x3"):
        bench.submit(request_id, request_id.encode(), max_tokens=1)
    bench.finish()
    assert list(bench.deltas) == ["a", "x1", "x2", "s1", "s2", "x3"]


def stuck(mode: str, newer_is_decoding: bool) -> tuple[Scheduler, Request, Request]:
    """Two running requests with two full pages each, of 4 pages in all, of which the older is amid its
    prompt.
    """
    pool = SequencePool(FakeKVCache(4, 4))
    scheduler = Scheduler(limits(prefill_mode=mode), pool, NoPrefixCache(pool))
    older = Request(spec("older", bytes(12), arrival=1.0), max_length=16)
    newer = Request(spec("newer", bytes(8 if newer_is_decoding else 12), arrival=2.0), max_length=16)
    newer.output_ids = [1] * newer_is_decoding
    for request in (older, newer):
        request.seq_id, request.num_computed = pool.add(), 8
        pool.grow(request.seq_id, 8)
        scheduler.running.append(request)
    return scheduler, older, newer


@pytest.mark.parametrize("mode", ["hybrid", "chunked"])
@pytest.mark.parametrize("newer_is_decoding", [False, True])
def test_there_is_always_something_to_run(mode: str, newer_is_decoding: bool) -> None:
    """When nobody has a page to go on the one that came last gives way, and the oldest goes on in the same
    plan.
    """
    scheduler, older, newer = stuck(mode, newer_is_decoding)
    plan = scheduler.plan()
    assert [(entry.request, entry.num_tokens) for entry in plan.entries] == [(older, 4)]
    assert plan.preempted == [newer]
    assert (newer.seq_id, newer.num_computed) == (None, 0)
    assert list(scheduler.waiting) == [newer]

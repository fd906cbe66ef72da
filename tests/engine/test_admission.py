"""Admission: which requests start when, seen in the batches that reach the backend."""

from __future__ import annotations

import pytest

from mlc_serve.engine.request import FinishReason
from tests.engine.bench import Bench


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
    """If a step has fewer tokens than there may be sequences, each running request still decodes in each
    step.
    """
    bench = Bench(prefill_chunk_size=2)
    for request_id in "abc":
        bench.submit(request_id, request_id.encode(), max_tokens=3)
    bench.step(2)
    assert bench.batch == [1, 1]
    assert bench.sample("requests_running") == 2


@pytest.mark.parametrize(("length", "batch"), [(12, [1, 12]), (13, [1])])
def test_a_prompt_is_admitted_when_it_exactly_fits(length: int, batch: list[int]) -> None:
    """Beside 4 used pages of 8 there is room for a prompt of 3 pages and a page to grow, but not for one of 4
    pages.
    """
    bench = Bench(num_pages=8, max_single_sequence_length=32, prefill_chunk_size=64)
    bench.submit("a", bytes(14), max_tokens=4)
    bench.step(2)
    bench.submit("b", bytes(range(50, 50 + length)), max_tokens=8)
    bench.step()
    assert bench.batch == batch


def test_a_page_to_grow_is_not_asked_of_what_can_not_grow() -> None:
    """A request that ends within its last page needs no further one."""
    bench = Bench(num_pages=8, max_single_sequence_length=32, prefill_chunk_size=64)
    bench.submit("a", bytes(range(50, 65)), max_tokens=1)
    bench.submit("b", bytes(16), max_tokens=0)
    bench.step()
    assert bench.batch == [15, 16]


def test_admission_leaves_what_running_prompts_still_need() -> None:
    """A prompt that is computed in chunks keeps its claim on pages that it has not filled yet."""
    bench = Bench(num_pages=8, max_single_sequence_length=32, prefill_chunk_size=12)
    bench.submit("a", bytes(20), max_tokens=4)
    bench.step()
    bench.submit("b", bytes(range(50, 60)), max_tokens=4)
    bench.step()
    assert bench.batch == [8]


def test_a_request_that_waits_for_pages_is_passed_over_once() -> None:
    """A small request may take the pages that a large one waits for; the next small one waits behind it."""
    bench = Bench(num_pages=7, max_single_sequence_length=28)
    bench.submit("a", bytes(16), max_tokens=6)
    bench.step(2)
    bench.submit("large", bytes(range(50, 70)), max_tokens=1)
    for request_id in ("small", "later"):
        bench.submit(request_id, request_id.encode(), max_tokens=1)
    bench.step()
    assert bench.batch == [1, 5]
    bench.finish()
    assert list(bench.deltas) == ["a", "small", "large", "later"]


def test_a_request_that_waits_for_a_sequence_is_passed_over_once() -> None:
    """With one sequence, one later short prompt runs before an earlier long one, and the next does not."""
    bench = Bench(max_num_sequence=1)
    for request_id, length in {"long": 9, "short": 2, "shorter": 1}.items():
        bench.submit(request_id, bytes(length), max_tokens=2)
    bench.finish()
    assert list(bench.deltas) == ["shorter", "long", "short"]


def test_siblings_wait_for_the_first_to_compute_their_prompt() -> None:
    """Eight requests with one prompt compute it once."""
    bench = Bench(num_pages=64, prefill_chunk_size=32)
    for i in range(8):
        bench.submit(f"r{i}", b"the same long prompt!", max_tokens=3)
    bench.step()
    assert bench.batch == [21]
    bench.step(2)
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
    assert bench.batch == [6, 6]
    bench.finish()
    assert (bench.num_cached("sibling"), bench.num_cached("other")) == (20, 0)


def test_siblings_go_on_as_soon_as_their_common_part_is_computed() -> None:
    """A request that waits for a shared page starts once that page is computed, though the other prompt is
    longer.
    """
    bench = Bench(prefill_chunk_size=8)
    bench.submit("long", b"head" + bytes(24), max_tokens=1)
    bench.step()
    bench.submit("short", b"head and tail", max_tokens=1)
    bench.step()
    assert bench.batch == [4, 4]
    bench.step(4)
    assert bench.num_cached("short") == 4


def test_nobody_is_held_back_without_a_prefix_cache() -> None:
    """If nothing can be shared, no request waits for another's prompt."""
    bench = Bench(prefix_cache_mode="disable")
    for request_id in "ab":
        bench.submit(request_id, b"same it")
    bench.step()
    assert bench.batch == [7, 7]


def test_a_hit_leaves_the_last_token() -> None:
    """A hit on a prompt that is cached completely ends at the page before the last token, whose logits are
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
    """A decode that is planned after prompts finds its page: a prompt that would take the page has
    to wait.
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
    """Cached pages that a request would share can't also be evicted for it: with 3 of 8 pages in use, 6 more
    don't fit.
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
    """Of three cached sequences the oldest outlives the next one because of a hit."""
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
    """Once the prompt that it waits for is computed, a held-back request starts before those that arrived
    after it.
    """
    bench = Bench(prefill_chunk_size=24, max_num_sequence=3)
    bench.submit("a", b"the same long prompt!", max_tokens=1)
    for request_id in ("s1", "s2"):
        bench.submit(request_id, b"the same long prompt!", max_tokens=1)
    for request_id in ("x1", "x2", "x3"):
        bench.submit(request_id, request_id.encode() * 11, max_tokens=1)
    bench.finish()
    assert list(bench.deltas) == ["a", "x1", "s1", "s2", "x2", "x3"]

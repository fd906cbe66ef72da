"""EngineMetrics: what an engine reports to Prometheus and under MLC-LLM's names."""

from __future__ import annotations

import re

import pytest
from prometheus_client import generate_latest

from tests.engine.bench import Bench
from tests.engine.speculation.scripted import partly_right


def finished_bench() -> Bench:
    """Return an engine that has finished two requests with one prompt, the second from cached pages."""
    bench = Bench()
    for request_id in "ab":
        bench.submit(request_id, b"0123456789", max_tokens=4)
        bench.finish()
    return bench


def test_tokens_are_counted() -> None:
    """Prompt, generated, queried and cached tokens are counted correctly."""
    bench = finished_bench()
    assert bench.sample("prompt_tokens_total") == 20
    assert bench.sample("generation_tokens_total") == 8
    assert bench.sample("prefix_cache_queried_tokens_total") == 20
    assert bench.sample("prefix_cache_hit_tokens_total") == 8


def test_latencies_are_counted() -> None:
    """Each request has one TTFT, one duration, and one time in the queue, in prefill and in decode; each
    later token has one ITL.
    """
    bench = finished_bench()
    assert bench.sample("time_to_first_token_seconds_count") == 2
    assert bench.sample("inter_token_latency_seconds_count") == 6
    assert bench.sample("request_duration_seconds_count") == 2
    for part in ("queue_time", "prefill_time", "decode_time"):
        assert bench.sample(f"{part}_seconds_count") == 2
    parts = sum(bench.sample(f"{part}_time_seconds_sum") for part in ("queue", "prefill"))
    assert parts == pytest.approx(bench.sample("time_to_first_token_seconds_sum"))


def test_a_request_without_a_token_was_in_neither_prefill_nor_decode() -> None:
    """If it is aborted before its first token, only its duration is observed."""
    bench = Bench()
    bench.submit("a", b"xyz")
    bench.core.abort("a")
    bench.finish()
    assert bench.sample("request_duration_seconds_count") == 1
    assert bench.sample("prefill_time_seconds_count") == bench.sample("decode_time_seconds_count") == 0


def test_ends_are_counted_by_reason() -> None:
    """Requests that have ended are counted by reason, and every reason has a count from the start."""
    bench = finished_bench()
    bench.submit("c", b"xyz")
    bench.core.abort("c")
    bench.finish()
    counts = {
        r: bench.sample("requests_finished_total", reason=r) for r in ("stop", "length", "abort", "error")
    }
    assert counts == {"stop": 0, "length": 2, "abort": 1, "error": 0}


def test_gauges_hold_from_the_start_and_after_a_reset() -> None:
    """The size of the KV cache is known before the first request, and a reset leaves no page held."""
    bench = Bench()
    assert bench.sample("kv_cache_pages") == 64
    bench.submit("a", b"0123456789", max_tokens=4)
    bench.finish()
    assert bench.sample("kv_cache_pages_recycled") > 0
    bench.core.reset()
    assert bench.sample("kv_cache_pages_recycled") == 0


def test_gauges_follow_the_engine() -> None:
    """The gauges show running and waiting requests and pages after the last step."""
    bench = Bench(max_num_sequence=1)
    bench.submit("a", b"0123456789", max_tokens=4)
    bench.step()
    bench.submit("b", b"xyz", max_tokens=4)
    bench.step()
    names = ("requests_running", "requests_waiting", "kv_cache_pages_used", "kv_cache_pages_recycled")
    assert [bench.sample(name) for name in names] == [1, 1, 3, 0]
    bench.finish()
    assert [bench.sample(name) for name in names] == [0, 0, 0, 6]
    assert bench.sample("kv_cache_pages") == 64


def test_a_request_is_admitted_once_in_the_counts() -> None:
    """A preempted request that resumes is not counted as admitted again."""
    bench = Bench(num_pages=8, max_single_sequence_length=32)
    for request_id in "ab":
        bench.submit(request_id, request_id.encode() * 5, max_tokens=20)
    bench.finish()
    assert bench.sample("preemptions_total") >= 1
    assert bench.sample("prompt_tokens_total") == 10
    assert bench.sample("queue_time_seconds_count") == 2


def test_a_snapshot_has_mlc_llms_names() -> None:
    """The snapshot has sums over all requests and the figures of the last one."""
    snapshot = finished_bench().metrics.snapshot()
    assert snapshot["prompt_tokens_sum"] == 20
    assert snapshot["completion_tokens_sum"] == 8
    assert snapshot["prefill_tokens_sum"] == 12
    assert snapshot["decode_tokens_sum"] == 6
    assert snapshot["last_finished_request_prompt_tokens"] == 10
    assert snapshot["last_finished_request_prefill_tokens"] == 2
    assert snapshot["last_finished_request_completion_tokens"] == 4
    assert snapshot["engine_prefill_time_sum"] > 0
    assert snapshot["engine_decode_time_sum"] > 0


def test_a_reset_starts_the_snapshot_anew() -> None:
    """After a reset the sums are zero, but Prometheus counters go on."""
    bench = finished_bench()
    bench.core.reset()
    assert set(bench.metrics.snapshot().values()) == {0}
    assert bench.sample("prompt_tokens_total") == 20


def test_drafts_are_counted() -> None:
    """Two of three drafts are kept in each pass, until a pass has room for two. All that are kept are decoded
    tokens, so that with the first one they are the completion.
    """
    bench = Bench(speculation=partly_right(3, 2))
    bench.submit("a", b"0123456789", max_tokens=10)
    bench.finish()
    names = ("draft_passes_total", "draft_tokens_total", "draft_tokens_kept_total")
    assert [bench.sample(name) for name in names] == [3, 8, 6]
    assert bench.sample("generation_tokens_total") == 10
    snapshot = bench.metrics.snapshot()
    assert snapshot["spec_decode"]["draft_count"] == [3, 3, 3, 2]
    assert snapshot["spec_decode"]["accept_count"] == [3, 3, 3, 0]
    assert snapshot["decode_tokens_sum"] == snapshot["last_finished_request_decode_tokens"] == 9
    assert snapshot["verify_time_by_batch_size"]["count{batch_size=4}"] == 1
    assert "decode_time_by_batch_size" not in snapshot


def test_a_reset_forgets_drafts() -> None:
    """MLC-LLM's counts start anew and are left out until something is drafted again; the counters go on."""
    bench = Bench(speculation=partly_right(3, 2))
    bench.submit("a", b"0123456789", max_tokens=10)
    bench.finish()
    bench.core.reset()
    assert set(bench.metrics.snapshot().values()) == {0}
    assert bench.sample("draft_tokens_total") == 8


def test_a_request_without_tokens_has_no_token_rates() -> None:
    """A request that ended before its first token reports its tokens and its duration, but neither rates nor
    TTFT; one that has several tokens reports all of them.
    """
    whole = finished_bench().metrics.snapshot()
    bench = Bench()
    bench.submit("a", b"xyz")
    bench.core.abort("a")
    bench.finish()
    snapshot = bench.metrics.snapshot()
    assert snapshot["last_finished_request_completion_tokens"] == 0
    timed = ("ttft_s", "prefill_tokens_per_s", "inter_token_latency_s", "decode_tokens_per_s")
    missing = {f"last_finished_request_{name}" for name in timed} | {"decode_time_by_batch_size"}
    assert whole.keys() - snapshot.keys() == missing


def test_the_registry_can_be_scraped() -> None:
    """The text format has help and type lines for every metric, and the model's name as a label."""
    text = generate_latest(finished_bench().metrics.registry).decode()
    helps, types = (re.findall(rf"^# {word} (\S+) \S", text, re.MULTILINE) for word in ("HELP", "TYPE"))
    assert helps == types
    assert "# TYPE mlc_serve_requests_running gauge" in text
    assert "# HELP mlc_serve_requests_running Requests that hold a sequence in the KV cache" in text
    assert 'mlc_serve_generation_tokens_total{model="fake"} 8.0' in text

"""The metrics of one engine: Prometheus metrics, and the sums that MLC-LLM reports under its own names.

Only the engine's thread writes; a scrape may read on any thread. Label children are looked up once, so that
counting a token costs one addition. Each engine has its own registry.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from mlc_serve.engine.batch_times import BatchTimes
from mlc_serve.engine.plan import Plan
from mlc_serve.engine.request import FinishReason, Request
from mlc_serve.engine.sequence_pool import SequencePool
from mlc_serve.engine.speculation.draft_metrics import DraftMetrics
from mlc_serve.engine.transfer_metrics import TransferMetrics

M = TypeVar("M", Gauge, Counter, Histogram)

_LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0, 180.0, 600.0)
_TOKEN_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 10.0)


@dataclass
class EngineSums:
    """Seconds and tokens since the engine started. A step with any prompt in it counts as prefill time."""

    engine_prefill_time_sum: float = 0.0
    engine_decode_time_sum: float = 0.0
    prompt_tokens_sum: int = 0
    completion_tokens_sum: int = 0
    prefill_tokens_sum: int = 0
    decode_tokens_sum: int = 0
    jump_forward_tokens_sum: int = 0


class EngineMetrics:
    """All metrics carry the label `model`. Times are time.monotonic() seconds."""

    def __init__(self, model_name: str) -> None:
        self._model_name = model_name
        self.registry = CollectorRegistry()
        self._sums = EngineSums()
        self._last_finished: dict[str, float] = {}
        self._batch_times = BatchTimes()
        self._drafts = DraftMetrics(self.registry, model_name)
        self.transfers = TransferMetrics(self.registry, model_name)
        self._make_gauges()
        self._make_counters()
        self._make_histograms()

    def _make_gauges(self) -> None:
        self._running = self._gauge("requests_running", "Requests that hold a sequence in the KV cache")
        self._waiting = self._gauge("requests_waiting", "Requests that wait to be admitted")
        self._page_size = self._gauge("kv_cache_page_size", "Tokens in a page of the KV cache")
        self._pages = self._gauge("kv_cache_pages", "Pages of the KV cache")
        self._pages_used = self._gauge("kv_cache_pages_used", "Pages held by running requests")
        self._pages_recycled = self._gauge("kv_cache_pages_recycled", "Pages held for the prefix cache alone")

    def _make_counters(self) -> None:
        self._queried = self._counter("prefix_cache_queried_tokens", "Prompt tokens looked for in the cache")
        self._hit = self._counter("prefix_cache_hit_tokens", "Prompt tokens found in the cache")
        self._prompt = self._counter("prompt_tokens", "Prompt tokens of admitted requests")
        self._generated = self._counter("generation_tokens", "Tokens generated")
        self._forced = self._counter("forced_tokens", "Tokens that a grammar forced, which were not drawn")
        self._preemptions = self._counter("preemptions", "Times that a running request lost its pages")
        finished = Counter(
            "mlc_serve_requests_finished",
            "Requests that ended, by reason",
            ["model", "reason"],
            registry=self.registry,
        )
        self._finished = {reason: finished.labels(self._model_name, reason.value) for reason in FinishReason}

    def _make_histograms(self) -> None:
        self._first_token = self._histogram(
            "time_to_first_token", "From arrival to the first token", _LATENCY_BUCKETS
        )
        self._between = self._histogram(
            "inter_token_latency", "From one token of a request to the next", _TOKEN_BUCKETS
        )
        self._duration = self._histogram("request_duration", "From arrival to the end", _LATENCY_BUCKETS)
        self._queued = self._histogram("queue_time", "From arrival to admission", _LATENCY_BUCKETS)
        self._prefill = self._histogram("prefill_time", "From admission to the first token", _LATENCY_BUCKETS)
        self._decode = self._histogram("decode_time", "From the first token to the last", _LATENCY_BUCKETS)

    def planned(self, plan: Plan, now: float) -> None:
        """Count a plan before its forward pass, and set `admitted_at` of newly admitted requests."""
        self._preemptions.inc(len(plan.preempted))
        for request in plan.admitted:
            if request.admitted_at is None:
                request.admitted_at = now
                self._admitted(request, now)

    def stepped(self, plan: Plan, num_drawn: int, start: float, stop: float) -> None:
        """Count a forward pass that ran from `start` to `stop` and drew `num_drawn` tokens."""
        self._generated.inc(num_drawn)
        num_decoded, num_prefilled = plan.num_decodes, plan.num_prompt_tokens
        self._sums.decode_tokens_sum += num_decoded
        self._sums.prefill_tokens_sum += num_prefilled
        if num_prefilled:
            self._sums.engine_prefill_time_sum += stop - start
        else:
            self._sums.engine_decode_time_sum += stop - start

    def ran(self, plan: Plan, seconds: float, draft_seconds: float) -> None:
        """Count the seconds of a forward pass, and those that drafting for it took."""
        self._batch_times.ran(plan, seconds, draft_seconds)

    def drafted(self, num_drafts: int, num_kept: int) -> None:
        """Count the drafts (at least one) of one request in one pass. Those kept are decoded tokens."""
        self._drafts.committed(num_drafts, num_kept)
        self._sums.decode_tokens_sum += num_kept

    def jumped(self, num_forced: int) -> None:
        """Count tokens that a constraint forced; they count as generated, too."""
        self._forced.inc(num_forced)
        self._sums.jump_forward_tokens_sum += num_forced

    def generated(self, request: Request, now: float) -> None:
        """Observe the TTFT or ITL of one token that was generated for a request."""
        if request.last_token_at is None:
            request.first_token_at = now
            self._first_token.observe(now - request.spec.arrival)
        else:
            self._between.observe(now - request.last_token_at)
        request.last_token_at = now

    def finished(self, request: Request, reason: FinishReason, now: float) -> None:
        """Count a request that ended."""
        self._finished[reason].inc()
        self._duration.observe(now - request.spec.arrival)
        self._observe_parts(request)
        self._sums.prompt_tokens_sum += len(request.spec.prompt_ids)
        self._sums.completion_tokens_sum += len(request.output_ids)
        self._last_finished = _last_finished(request, now)

    def observe(self, num_running: int, num_waiting: int, pool: SequencePool) -> None:
        """Set the gauges. Called at the start, after a step and after a reset."""
        self._running.set(num_running)
        self._waiting.set(num_waiting)
        self._page_size.set(pool.page_size)
        self._pages.set(pool.num_pages)
        self._pages_used.set(pool.num_pages - pool.num_unpinned_pages)
        self._pages_recycled.set(pool.num_unpinned_pages - pool.num_free_pages)

    def reset(self) -> None:
        """Set the sums of `snapshot` to zero. Prometheus counters stay, since they must only ever grow."""
        self._sums = EngineSums()
        self._last_finished = {}
        self._batch_times = BatchTimes()
        self._drafts.reset()

    def snapshot(self) -> dict[str, Any]:
        """Return the sums, the figures of the last request, and what is known about batches and drafts, under
        MLC-LLM's names.
        """
        last = {f"last_finished_request_{name}": value for name, value in self._last_finished.items()}
        drafts = self._drafts.snapshot()
        spec_decode = {"spec_decode": drafts} if drafts else {}
        return asdict(self._sums) | last | self._batch_times.snapshot() | spec_decode

    def _admitted(self, request: Request, now: float) -> None:
        num_prompt = len(request.spec.prompt_ids)
        self._queued.observe(now - request.spec.arrival)
        self._prompt.inc(num_prompt)
        if request.may_reuse_prefix:
            self._queried.inc(num_prompt)
            self._hit.inc(request.num_cached or 0)

    def _observe_parts(self, request: Request) -> None:
        """Observe how long a request that has ended was in prefill and in decode, if it has a token."""
        admitted, first, last = request.admitted_at, request.first_token_at, request.last_token_at
        if admitted is not None and first is not None and last is not None:
            self._prefill.observe(first - admitted)
            self._decode.observe(last - first)

    def _gauge(self, name: str, description: str) -> Gauge:
        return self._labelled(Gauge(f"mlc_serve_{name}", description, ["model"], registry=self.registry))

    def _counter(self, name: str, description: str) -> Counter:
        return self._labelled(Counter(f"mlc_serve_{name}", description, ["model"], registry=self.registry))

    def _histogram(self, name: str, description: str, buckets: tuple[float, ...]) -> Histogram:
        metric = Histogram(
            f"mlc_serve_{name}_seconds", description, ["model"], registry=self.registry, buckets=buckets
        )
        return self._labelled(metric)

    def _labelled(self, metric: M) -> M:
        return metric.labels(self._model_name)


def _last_finished(request: Request, now: float) -> dict[str, float]:
    num_prompt, num_output = len(request.spec.prompt_ids), len(request.output_ids)
    sums: dict[str, float] = {
        "prompt_tokens": num_prompt,
        "completion_tokens": num_output,
        "prefill_tokens": num_prompt - (request.num_cached or 0),
        "decode_tokens": max(0, num_output - 1),
        "end_to_end_latency_s": now - request.spec.arrival,
    }
    if request.first_token_at is None or request.last_token_at is None:
        return sums
    time_to_first = request.first_token_at - request.spec.arrival
    decode_time = request.last_token_at - request.first_token_at
    sums["ttft_s"] = time_to_first
    if time_to_first > 0:
        sums["prefill_tokens_per_s"] = sums["prefill_tokens"] / time_to_first
    if num_output > 1 and decode_time > 0:
        sums["inter_token_latency_s"] = decode_time / (num_output - 1)
        sums["decode_tokens_per_s"] = (num_output - 1) / decode_time
    return sums

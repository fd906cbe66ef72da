"""The engine: requests in, deltas out, one forward pass a step.

step() is plan -> run -> commit. The scheduler plans, the backend runs, and commit here is the only writer of
a request's tokens and counters. Runs on one thread (see EngineLoop); knows no text, no device and no thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from mlc_serve.engine.backend import Backend, SequenceStep, StepResult
from mlc_serve.engine.limits import EngineLimits
from mlc_serve.engine.metrics import EngineMetrics
from mlc_serve.engine.pacing import Pacing
from mlc_serve.engine.prefix_cache import NoPrefixCache, PrefixCache, RadixPrefixCache
from mlc_serve.engine.request import EngineRequest, FinishReason, Request, RequestDelta
from mlc_serve.engine.scheduler import Plan, PlanEntry, Scheduler
from mlc_serve.engine.sequence_pool import SequencePool
from mlc_serve.engine.trace import Trace
from mlc_serve.errors import ContextLengthError, InvalidRequestError


class EngineCore:
    """Serves requests from one backend. Each submitted one ends in exactly one delta with a finish reason.

    `clock` gives seconds, in the time that requests arrive in.
    """

    def __init__(
        self,
        backend: Backend,
        limits: EngineLimits,
        metrics: EngineMetrics,
        trace: Trace,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._backend = backend
        self._limits = limits
        self._metrics = metrics
        self._trace = trace
        self._clock = clock
        self._pool = SequencePool(backend.kv)
        self._cache = _prefix_cache(limits, self._pool)
        self._pacing = Pacing()
        self._scheduler = Scheduler(limits, self._pool, self._cache, self._pacing)
        self._requests: dict[str, Request] = {}
        self._ended: list[RequestDelta] = []
        if self._pool.num_pages_of(limits.max_single_sequence_length) > self._pool.num_pages:
            raise ValueError("the KV cache is smaller than max_single_sequence_length")
        self._observe()

    @property
    def has_work(self) -> bool:
        """Whether a step would do anything."""
        return bool(self._requests or self._ended)

    @property
    def limits(self) -> EngineLimits:
        """What the engine keeps to."""
        return self._limits

    @property
    def trace(self) -> Trace:
        """What the engine takes note of."""
        return self._trace

    def check(self, spec: EngineRequest) -> None:
        """Raise what `submit` refuses a request for. Reads nothing that changes: any thread may call it."""
        num_prompt, limit = len(spec.prompt_ids), self._limits.max_single_sequence_length
        if not num_prompt:
            raise InvalidRequestError("The prompt has no tokens.", param="prompt")
        if num_prompt >= limit:
            raise ContextLengthError.of_prompt(f"{num_prompt} tokens", limit, "prompt")

    def submit(self, spec: EngineRequest) -> None:
        """Accept a request under an id not in use; ContextLengthError if its prompt leaves no room for a
        token.
        """
        self.check(spec)
        if spec.request_id in self._requests:
            raise ValueError(f"request id {spec.request_id} is in use")
        limit, max_tokens = self._limits.max_single_sequence_length, spec.params.max_tokens
        length = limit if max_tokens is None else min(limit, len(spec.prompt_ids) + max_tokens)
        request = self._requests[spec.request_id] = Request(spec, length)
        self._scheduler.add(request)
        self._trace.instant(spec.request_id, "request added to engine")

    def abort(self, request_id: str, reason: FinishReason = FinishReason.ABORT) -> None:
        """End a request, whatever its state; the next step brings its last delta. An ended one is let be."""
        request = self._requests.get(request_id)
        if request is not None:
            self._finish(request, reason, self._clock())
            self._ended.append(_delta(request, finish_reason=reason))

    def abort_all(self, reason: FinishReason = FinishReason.ABORT) -> None:
        """End every request."""
        for request_id in list(self._requests):
            self.abort(request_id, reason)

    def reset(self) -> None:
        """End every request; forget all that is cached, and the sums that `EngineMetrics.snapshot` gives."""
        self.abort_all()
        self._metrics.reset()
        self._pool.clear()
        self._cache.clear()
        self._observe()

    def step(self) -> list[RequestDelta]:
        """Advance requests by one forward pass. Whatever it raises means that the engine can't go on."""
        start = self._clock()
        plan = self._plan(start)
        results = self._run(plan)
        deltas = self._commit(plan, results, start)
        self._check_idle()
        return deltas

    def _plan(self, now: float) -> Plan:
        plan = self._scheduler.plan()
        if self._requests and not plan.entries:
            raise RuntimeError(f"none of {len(self._requests)} requests can go on")
        self._metrics.planned(plan, now)
        return plan

    def _run(self, plan: Plan) -> list[StepResult]:
        """An empty plan, where there are ended requests to report alone, needs no forward pass."""
        if not plan.entries:
            return []
        steps = [_sequence_step(entry) for entry in plan.entries]
        start = self._clock()
        results = self._backend.run(steps)
        self._pacing.measured(plan.num_decodes, plan.num_prompt_tokens, self._clock() - start)
        return results

    def _commit(self, plan: Plan, results: Sequence[StepResult], start: float) -> list[RequestDelta]:
        now = self._clock()
        num_drawn = sum(result.token_id is not None for result in results)
        self._metrics.stepped(plan, num_drawn, start, now)
        self._trace.step(plan, start, now)
        deltas, self._ended = self._ended, []
        for entry, result in zip(plan.entries, results, strict=True):
            delta = self._commit_one(entry, result, now)
            if delta is not None:
                deltas.append(delta)
        self._observe()
        return deltas

    def _observe(self) -> None:
        self._metrics.observe(len(self._scheduler.running), len(self._scheduler.waiting), self._pool)

    def _commit_one(self, entry: PlanEntry, result: StepResult, now: float) -> RequestDelta | None:
        """Take a result into its request; what there is to tell of it."""
        request = entry.request
        request.num_computed += entry.num_tokens
        self._cache.record(request)
        is_caught_up = request.num_uncomputed == 0
        if result.target_logprobs:
            request.num_prompt_logprobs += len(result.target_logprobs)
        if result.token_id is not None:
            request.output_ids.append(result.token_id)
            self._metrics.generated(request, now)
        reason = _finish_reason(request, result) if is_caught_up or result.error else None
        if reason is not None:
            self._finish(request, reason, now)
        if reason is None and result.token_id is None and not result.target_logprobs:
            return None
        return _result_delta(request, result, reason)

    def _finish(self, request: Request, reason: FinishReason, now: float) -> None:
        del self._requests[request.spec.request_id]
        self._scheduler.remove(request)
        self._metrics.finished(request, reason, now)
        self._trace.instant(request.spec.request_id, "finish")

    def _check_idle(self) -> None:
        """Nothing may be left behind: every page is free or held by a recycled sequence."""
        if not self._requests:
            self._pool.check_idle()


def _prefix_cache(limits: EngineLimits, pool: SequencePool) -> PrefixCache:
    if limits.prefix_cache_mode == "disable":
        return NoPrefixCache(pool)
    return RadixPrefixCache(pool, limits.max_recycling_sequences)


def _sequence_step(entry: PlanEntry) -> SequenceStep:
    request, spec = entry.request, entry.request.spec
    start = request.num_computed
    return SequenceStep(
        seq_id=entry.seq_id,
        token_ids=request.known_ids(start, start + entry.num_tokens),
        draw=request.draw if entry.draws else None,
        targets=None if request.may_reuse_prefix else _targets(request, start, start + entry.num_tokens),
        num_top_logprobs=spec.params.num_top_logprobs or 0,
    )


def _targets(request: Request, start: int, stop: int) -> list[int | None]:
    """The prompt tokens after positions [start, stop) whose logprobs have not left the engine."""
    prompt_ids, done = request.spec.prompt_ids, request.num_prompt_logprobs
    return [prompt_ids[i] if done < i < len(prompt_ids) else None for i in range(start + 1, stop + 1)]


def _finish_reason(request: Request, result: StepResult) -> FinishReason | None:
    """Why a request ends, if it does, whose step has failed or whose known tokens are all computed."""
    if result.error is not None:
        return FinishReason.ERROR
    if result.token_id in request.spec.params.stop_token_ids:
        return FinishReason.STOP
    return FinishReason.LENGTH if request.num_tokens >= request.max_length else None


def _result_delta(request: Request, result: StepResult, reason: FinishReason | None) -> RequestDelta:
    return RequestDelta(
        request_id=request.spec.request_id,
        token_ids=() if result.token_id is None else (result.token_id,),
        logprobs=() if result.logprobs is None else (result.logprobs,),
        prompt_logprobs=result.target_logprobs,
        num_cached_tokens=request.num_cached or 0,
        finish_reason=reason,
        stop_token=reason is FinishReason.STOP,
        error=result.error,
    )


def _delta(request: Request, finish_reason: FinishReason) -> RequestDelta:
    return RequestDelta(
        request_id=request.spec.request_id,
        num_cached_tokens=request.num_cached or 0,
        finish_reason=finish_reason,
    )

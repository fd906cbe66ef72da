"""The engine: requests come in, deltas go out, and each step is one forward pass.

step() is plan -> run -> commit. The scheduler plans, the backend runs, and `_commit` is the only writer of a
request's tokens and counters. Runs on one thread (see EngineLoop), and knows nothing about text or devices.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from mlc_serve.engine.backend import Backend, SequenceStep, StepResult
from mlc_serve.engine.limits import EngineLimits
from mlc_serve.engine.metrics import EngineMetrics
from mlc_serve.engine.pacing import Pacing
from mlc_serve.engine.plan import Plan, PlanEntry
from mlc_serve.engine.policy import MakePolicy
from mlc_serve.engine.prefix_cache import NoPrefixCache, PrefixCache, RadixPrefixCache
from mlc_serve.engine.prefix_moves import PrefixMoves
from mlc_serve.engine.prefix_store import PrefixStore
from mlc_serve.engine.prefix_transfer import PrefixTransfer
from mlc_serve.engine.request import EngineRequest, FinishReason, Request, RequestDelta
from mlc_serve.engine.scheduler import Scheduler
from mlc_serve.engine.sequence_pool import SequencePool
from mlc_serve.engine.sequence_state import SequenceState
from mlc_serve.engine.speculation.draft_totals import DraftTotals
from mlc_serve.engine.speculation.speculation import Speculation
from mlc_serve.engine.trace import Trace


class EngineCore:
    """Serves requests with one backend. Each request ends with exactly one delta that has a finish reason.

    `clock` returns seconds; the `arrival` of requests is read from the same clock. `make_policy` makes the
    policy that decides which requests compute next. The output of a request is the same with any policy, and
    with any `speculation`, which is none if it is None. A `store`, if there is one, is offered the prefixes
    that are recycled. `prefixes` moves prefixes between steps, and `prefix_transfer` exchanges them with
    other engines; it is None where that can't be done, see `why_no_transfer`.
    """

    def __init__(
        self,
        backend: Backend,
        limits: EngineLimits,
        metrics: EngineMetrics,
        trace: Trace,
        clock: Callable[[], float] = time.monotonic,
        make_policy: MakePolicy = Scheduler,
        speculation: Speculation | None = None,
        store: PrefixStore | None = None,
    ) -> None:
        self._backend = backend
        self._limits = limits
        self._metrics = metrics
        self._trace = trace
        self._clock = clock
        self._pool = SequencePool(backend.state)
        self._cache = _prefix_cache(limits, self._pool, store)
        self.prefixes = PrefixMoves(self._pool, self._cache)
        self._pacing = Pacing()
        self._speculation = speculation or Speculation.none()
        self._scheduler = make_policy(limits, self._pool, self._cache, self._pacing, self._speculation)
        self.prefix_transfer = self._prefix_transfer()
        self._requests: dict[str, Request] = {}
        self._ended: list[RequestDelta] = []
        if self._pool.num_pages_of(limits.max_single_sequence_length) > self._pool.num_pages:
            raise ValueError("the KV cache is smaller than max_single_sequence_length")
        self._observe()

    @property
    def has_work(self) -> bool:
        """Whether a step would do anything."""
        return bool(self._requests or self._ended)

    def check(self, spec: EngineRequest) -> None:
        """Raise ValueError if the prompt is empty or too long, which the caller should have checked already.

        Any thread may call this, since it reads nothing that changes.
        """
        num_prompt, limit = len(spec.prompt_ids), self._limits.max_single_sequence_length
        if not 0 < num_prompt < limit:
            raise ValueError(f"a prompt of {num_prompt} tokens doesn't fit into a context of {limit}")

    def submit(self, spec: EngineRequest) -> None:
        """Accept a request that has passed `check` and whose id no other open request has."""
        limit, max_tokens = self._limits.max_single_sequence_length, spec.params.max_tokens
        length = limit if max_tokens is None else min(limit, len(spec.prompt_ids) + max_tokens)
        request = self._requests[spec.request_id] = Request(spec, length)
        self._scheduler.add(request)
        self._trace.instant(spec.request_id, "request added to engine")

    def abort(self, request_id: str, reason: FinishReason = FinishReason.ABORT) -> None:
        """End a waiting or running request; the next step returns its last delta.

        Does nothing if it has already ended.
        """
        request = self._requests.get(request_id)
        if request is not None:
            self._finish(request, reason, self._clock())
            self._ended.append(_delta(request, finish_reason=reason))

    def abort_all(self, reason: FinishReason = FinishReason.ABORT) -> None:
        """End every request."""
        for request_id in list(self._requests):
            self.abort(request_id, reason)

    def reset(self) -> None:
        """End every request, empty the prefix cache, and reset the sums in `EngineMetrics.snapshot`."""
        self.abort_all()
        self._metrics.reset()
        self._pool.clear()
        self._cache.clear()
        if self.prefix_transfer is not None:
            self.prefix_transfer.reset()
        self._observe()

    def step(self) -> list[RequestDelta]:
        """Advance requests by one forward pass. After any exception the engine can't go on."""
        start = self._clock()
        plan = self._plan(start)
        results = self._run(plan)
        deltas = self._commit(plan, results, start)
        self._check_idle()
        return deltas

    def _prefix_transfer(self) -> PrefixTransfer | None:
        if self._pool.layout is None or not isinstance(self._cache, RadixPrefixCache):
            return None
        parts = (self._pool, self._cache, self._scheduler, self._metrics.transfers)
        return PrefixTransfer(*parts, observe=self._observe)

    def _plan(self, now: float) -> Plan:
        plan = self._scheduler.plan()
        if self._requests and not plan.entries:
            raise RuntimeError(f"none of the {len(self._requests)} requests can make progress")
        self._metrics.planned(plan, now)
        return plan

    def _run(self, plan: Plan) -> list[StepResult]:
        """Run the forward pass. An empty plan needs none: there are only aborted requests to report."""
        if not plan.entries:
            return []
        steps = [_sequence_step(entry) for entry in plan.entries]
        start = self._clock()
        results = self._backend.run(steps)
        seconds = self._clock() - start
        self._pacing.measured(plan.num_decodes, plan.num_prompt_tokens, seconds)
        self._speculation.measured(plan, seconds)
        self._metrics.ran(plan, seconds, self._speculation.draft_seconds)
        return results

    def _commit(self, plan: Plan, results: Sequence[StepResult], start: float) -> list[RequestDelta]:
        now = self._clock()
        self._trace.step(plan, start, now)
        num_generated, deltas = 0, self._ended
        self._ended = []
        for entry, result in zip(plan.entries, results, strict=True):
            delta = self._commit_one(entry, result, now)
            if delta is not None:
                num_generated += len(delta.token_ids)
                deltas.append(delta)
        self._metrics.stepped(plan, num_generated, start, now)
        self._observe()
        return deltas

    def _observe(self) -> None:
        self._metrics.observe(len(self._scheduler.running), len(self._scheduler.waiting), self._pool)

    def _commit_one(self, entry: PlanEntry, result: StepResult, now: float) -> RequestDelta | None:
        """Write a result into its request, and return the delta to deliver, if there is anything new."""
        request = entry.request
        drawn = request.accepted(_kept(request, result.token_ids))
        num_drafts_kept = self._settle_drafts(entry, drawn)
        request.num_computed += entry.num_tokens + num_drafts_kept
        request.num_prompt_logprobs += len(result.target_logprobs)
        kept = self._append(request, drawn, now)
        self._cache.record(request)
        reason = _finish_reason(request, result, kept)
        if reason is not None:
            self._finish(request, reason, now)
        if reason is None and not kept and not result.target_logprobs:
            return None
        return _result_delta(request, result, kept, reason)

    def _settle_drafts(self, entry: PlanEntry, drawn: tuple[int, ...]) -> int:
        """Take back the drafts that were not drawn, and return the number of the others."""
        num_drafts, num_kept = len(entry.draft_ids), max(0, len(drawn) - 1)
        if num_drafts > num_kept:
            self._pool.shrink(entry.seq_id, num_drafts - num_kept)
        if num_drafts:
            self._count_drafts(entry.request, num_drafts, num_kept)
        return num_kept

    def _count_drafts(self, request: Request, num_drafts: int, num_kept: int) -> None:
        request.drafts = (request.drafts or DraftTotals()).with_pass(num_drafts, num_kept)
        self._metrics.drafted(num_drafts, num_kept)
        self._speculation.committed(request, num_drafts, num_kept)

    def _append(self, request: Request, drawn: tuple[int, ...], now: float) -> tuple[int, ...]:
        """Append drawn tokens and those that are forced after them, and return both."""
        request.output_ids += drawn
        kept = drawn + self._append_forced(request, drawn) if request.spec.constraint is not None else drawn
        for _ in kept:
            self._metrics.generated(request, now)
        return kept

    def _append_forced(self, request: Request, drawn: tuple[int, ...]) -> tuple[int, ...]:
        """Append and return the tokens that the constraint forces after what was drawn.

        They are known but not computed, so that the next steps compute them as they compute a prompt's
        tokens, several in one pass.
        """
        if not drawn or _ends_in_stop_token(request, drawn):
            return ()
        forced = request.accepted(_kept(request, tuple(request.forced())))
        request.output_ids += forced
        self._metrics.jumped(len(forced))
        return forced

    def _finish(self, request: Request, reason: FinishReason, now: float) -> None:
        del self._requests[request.spec.request_id]
        self._scheduler.remove(request)
        self._speculation.forget(request)
        self._metrics.finished(request, reason, now)
        self._trace.instant(request.spec.request_id, "finish")

    def _check_idle(self) -> None:
        """Check that without requests every page is free or held by a recycled sequence."""
        if not self._requests:
            self._pool.check_idle()


def why_no_transfer(limits: EngineLimits, state: SequenceState) -> str | None:
    """Return why an engine can't exchange prefixes with others, or None if it can."""
    if state.layout is None or not state.can_fork:
        return "the state of this model's sequences can't be copied to another server"
    if limits.prefix_cache_mode == "disable" or limits.max_recycling_sequences == 0:
        return "the server has no prefix cache"
    return None


def _prefix_cache(limits: EngineLimits, pool: SequencePool, store: PrefixStore | None) -> PrefixCache:
    if limits.prefix_cache_mode == "disable" or not pool.can_fork:
        return NoPrefixCache(pool)
    return RadixPrefixCache(pool, limits.max_recycling_sequences, store)


def _sequence_step(entry: PlanEntry) -> SequenceStep:
    request, spec = entry.request, entry.request.spec
    start = request.num_computed
    return SequenceStep(
        seq_id=entry.seq_id,
        token_ids=request.known_ids(start, start + entry.num_tokens),
        draws=request.draws(entry.draft_ids) if entry.draws else (),
        draft_ids=entry.draft_ids,
        targets=None if request.may_reuse_prefix else _targets(request, start, start + entry.num_tokens),
        num_top_logprobs=spec.params.num_prompt_logprobs or 0,
    )


def _targets(request: Request, start: int, stop: int) -> list[int | None]:
    """Return the prompt token after each position in [start, stop).

    It is None where the prompt has no next token or the token's logprob was delivered already.
    """
    prompt_ids, done = request.spec.prompt_ids, request.num_prompt_logprobs
    return [prompt_ids[i] if done < i < len(prompt_ids) else None for i in range(start + 1, stop + 1)]


def _kept(request: Request, token_ids: tuple[int, ...]) -> tuple[int, ...]:
    """Return the tokens that a step has drawn, up to the first one that ends the request."""
    stops, fitting = request.spec.params.stop_token_ids, token_ids[: request.max_length - request.num_tokens]
    for count, token_id in enumerate(fitting, 1):
        if token_id in stops:
            return fitting[:count]
    return fitting


def _finish_reason(request: Request, result: StepResult, kept: tuple[int, ...]) -> FinishReason | None:
    """Return why a request ends after a step, or None. It goes on while it has known tokens to compute."""
    if result.error is not None:
        return FinishReason.ERROR
    if kept and (_ends_in_stop_token(request, kept) or request.is_complete):
        return FinishReason.STOP
    is_full = request.num_tokens >= request.max_length
    return FinishReason.LENGTH if is_full and (kept or not request.num_uncomputed) else None


def _ends_in_stop_token(request: Request, token_ids: tuple[int, ...]) -> bool:
    return bool(token_ids) and token_ids[-1] in request.spec.params.stop_token_ids


def _result_delta(
    request: Request, result: StepResult, kept: tuple[int, ...], reason: FinishReason | None
) -> RequestDelta:
    return RequestDelta(
        request_id=request.spec.request_id,
        token_ids=kept,
        logprobs=result.logprobs[: len(kept)],
        prompt_logprobs=result.target_logprobs,
        num_cached_tokens=request.num_cached or 0,
        finish_reason=reason,
        stop_token=reason is FinishReason.STOP and _ends_in_stop_token(request, kept),
        error=result.error,
        drafts=request.drafts,
    )


def _delta(request: Request, finish_reason: FinishReason) -> RequestDelta:
    return RequestDelta(
        request_id=request.spec.request_id,
        num_cached_tokens=request.num_cached or 0,
        finish_reason=finish_reason,
        drafts=request.drafts,
    )

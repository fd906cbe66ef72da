"""The simplest scheduling policy, which shows what the engine needs from a policy."""

from __future__ import annotations

from mlc_serve.engine.limits import EngineLimits
from mlc_serve.engine.pacing import Pacing
from mlc_serve.engine.plan import Plan, PlanEntry
from mlc_serve.engine.prefix_cache import PrefixCache
from mlc_serve.engine.request import Request, RequestState
from mlc_serve.engine.sequence_pool import SequencePool
from mlc_serve.engine.speculation.speculation import Speculation


class FirstComeFirstServed:
    """Starts requests in order of arrival, once there are enough pages for their `max_length`.

    Therefore it never preempts a request. Implements engine.policy.Policy.
    """

    def __init__(
        self,
        limits: EngineLimits,
        pool: SequencePool,
        cache: PrefixCache,
        _pacing: Pacing,
        _speculation: Speculation,
    ) -> None:
        self._budget = limits.prefill_chunk_size
        self._max_running = min(limits.max_num_sequence, limits.prefill_chunk_size)
        self._pool = pool
        self._cache = cache
        self.waiting: list[Request] = []
        self.running: list[Request] = []

    def add(self, request: Request) -> None:
        """Add a request to the waiting ones."""
        self.waiting.append(request)

    def remove(self, request: Request) -> None:
        """Forget a request, and give its sequence to the prefix cache."""
        if request.state is RequestState.WAITING:
            self.waiting.remove(request)
        else:
            self.running.remove(request)
            self._cache.recycle(request)
        request.end()

    def plan(self) -> Plan:
        """Start the requests that fit. Then give the budget to the running requests in order of arrival."""
        plan = Plan()
        while self.waiting and len(self.running) < self._max_running and self._fits(self.waiting[0]):
            plan.admitted.append(self._start(self.waiting.pop(0)))
        num_left = self._budget
        for request in self.running:
            num_tokens = min(request.num_uncomputed, num_left)
            if num_tokens:
                plan.entries.append(self._entry(request, num_tokens))
                num_left -= num_tokens
        return plan

    def _fits(self, request: Request) -> bool:
        lengths = [other.max_length for other in (*self.running, request)]
        return sum(map(self._pool.num_pages_of, lengths)) <= self._pool.num_pages

    def _start(self, request: Request) -> Request:
        request.start(self._pool.add())
        request.num_cached = 0
        self.running.append(request)
        return request

    def _entry(self, request: Request, num_tokens: int) -> PlanEntry:
        seq_id, is_decode = request.held_seq_id, request.is_decoding
        while self._pool.room(seq_id) < num_tokens:
            self._cache.evict()
        self._pool.grow(seq_id, num_tokens)
        draws = num_tokens == request.num_uncomputed and request.num_tokens < request.max_length
        return PlanEntry(request, seq_id, num_tokens, draws, is_decode)

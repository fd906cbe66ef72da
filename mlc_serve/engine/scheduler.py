"""Who computes how many tokens in the next forward pass.

A request has tokens it knows and tokens it has computed; a plan lets the second catch up with the first,
within a budget of tokens, sequences and pages. Prompts in chunks, prefix hits and resumption after preemption
are that same arithmetic. Owns the waiting and running lists; runs on the engine's thread. Knows no logits, no
clock and no metrics.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from dataclasses import dataclass, field

from mlc_serve.engine.limits import EngineLimits
from mlc_serve.engine.prefix_cache import PrefixCache
from mlc_serve.engine.radix_tree import PrefixMatch
from mlc_serve.engine.request import Request
from mlc_serve.engine.sequence_pool import SequencePool


@dataclass(frozen=True)
class PlanEntry:
    """A request computes its next `num_tokens` known tokens on `seq_id`, and draws another if `draws`."""

    request: Request
    seq_id: int
    num_tokens: int
    draws: bool
    is_decode: bool


@dataclass
class Plan:
    """One forward pass, and what making it did: who was admitted, who gave its pages back."""

    num_tokens_left: int
    entries: list[PlanEntry] = field(default_factory=list)
    admitted: list[Request] = field(default_factory=list)
    preempted: list[Request] = field(default_factory=list)


class Scheduler:
    """First come, first served. `running` is in order of arrival; whoever came last gives way when pages run
    out.

    Requests that were admitted hold a sequence, waiting ones don't. No page is asked of the KV cache that is
    not free.
    """

    def __init__(self, limits: EngineLimits, pool: SequencePool, cache: PrefixCache) -> None:
        self._budget = limits.prefill_chunk_size
        self._max_running = min(limits.max_num_sequence, limits.prefill_chunk_size)
        self._fill = {"hybrid": self._fill_hybrid, "chunked": self._fill_chunked}[limits.prefill_mode]
        self._pool = pool
        self._cache = cache
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []

    def add(self, request: Request) -> None:
        """Let a request wait for its turn."""
        self.waiting.append(request)

    def remove(self, request: Request) -> None:
        """Forget a request in any state; what it has computed goes to the prefix cache."""
        if request.seq_id is None:
            self.waiting.remove(request)
            return
        self.running.remove(request)
        self._cache.recycle(request)
        request.seq_id = None

    def plan(self) -> Plan:
        """The next forward pass. Empty only if there is no request: the oldest running one is never
        preempted.
        """
        plan = Plan(self._budget)
        self._fill(plan)
        while not plan.entries and len(self.running) > 1:
            self._preempt_latest(plan)
            self._fill(plan)
        return plan

    def _fill_hybrid(self, plan: Plan) -> None:
        """Decodes go first, and prompts take what is left of the budget."""
        self._plan_decodes(plan)
        self._plan_prefills(plan)

    def _fill_chunked(self, plan: Plan) -> None:
        """Decodes wait as long as some prompt can be worked on; pages that they then give back may serve
        prompts.
        """
        for fill in (self._plan_prefills, self._plan_decodes, self._plan_prefills):
            if not plan.entries:
                fill(plan)

    def _plan_decodes(self, plan: Plan) -> None:
        for request in [request for request in self.running if request.is_decoding]:
            while request.seq_id is not None and not self._make_room(request, 1):
                self._preempt_latest(plan)
            self._plan_tokens(plan, request)

    def _plan_prefills(self, plan: Plan) -> None:
        for request in self.running:
            if not request.is_decoding:
                self._plan_tokens(plan, request)
        self._admit(plan)

    def _plan_tokens(self, plan: Plan, request: Request) -> None:
        """Let a running request compute as much as budget and pages allow, if anything."""
        if request.seq_id is None:
            return
        wanted = min(request.num_uncomputed, plan.num_tokens_left)
        self._make_room(request, wanted)
        num_tokens = min(wanted, self._room(request))
        if not num_tokens:
            return
        self._pool.grow(request.seq_id, num_tokens)
        plan.num_tokens_left -= num_tokens
        draws = num_tokens == request.num_uncomputed and request.num_tokens < request.max_length
        plan.entries.append(PlanEntry(request, request.seq_id, num_tokens, draws, request.is_decoding))

    def _room(self, request: Request) -> int:
        """Tokens that a running request can append to its last page and to all free ones."""
        num_pages = self._pool.num_pages_of(request.num_computed) + self._pool.num_free_pages
        return num_pages * self._pool.page_size - request.num_computed

    def _make_room(self, request: Request, num_tokens: int) -> bool:
        """Evict what it takes for a running request to append `num_tokens`; False if that is not enough."""
        while self._room(request) < num_tokens:
            if not self._cache.evict():
                return False
        return True

    def _preempt_latest(self, plan: Plan) -> None:
        """Take the pages of the request that came last. It is the next to be admitted, and computes its
        tokens again.
        """
        request = self.running.pop()
        self._cache.discard(request)
        request.seq_id = None
        request.num_computed = 0
        self.waiting.appendleft(request)
        plan.preempted.append(request)

    def _admit(self, plan: Plan) -> None:
        """Start waiting requests in turn, up to one that does not fit.

        Those held back keep their place. No more of them are passed over than may run, so that a plan stays
        cheap.
        """
        held: list[Request] = []
        while self.waiting and plan.num_tokens_left and len(self.running) < self._max_running > len(held):
            request = self.waiting.popleft()
            hit = self._match(request)
            if self._is_held_back(request, hit):
                held.append(request)
            elif self._fits(request, hit):
                self._start(plan, request, hit)
            else:
                self.waiting.appendleft(request)
                break
        self.waiting.extendleft(reversed(held))

    def _match(self, request: Request) -> PrefixMatch | None:
        """The cached beginning of a request's tokens, less the last one: its logits are needed."""
        if not request.may_reuse_prefix:
            return None
        return self._cache.match(request.known_ids(0, request.num_tokens - 1))

    def _is_held_back(self, request: Request, hit: PrefixMatch | None) -> bool:
        """Whether a running request is about to compute more of the same prompt than is cached now."""
        if not request.may_reuse_prefix:
            return False
        cached = hit.length if hit else 0
        prefilling = [other for other in self.running if not other.is_prompt_computed]
        return any(self._cache.num_shareable(request, other) > cached for other in prefilling)

    def _fits(self, request: Request, hit: PrefixMatch | None) -> bool:
        """Whether all known tokens and a page to grow fit, beside what the running requests still have to
        compute.
        """
        wanted = self._pool.num_pages_of(min(request.num_tokens + self._pool.page_size, request.max_length))
        if hit:
            wanted += self._pool.num_pinned_by_fork(hit.seq_id, hit.length) - self._pool.num_pages_of(
                hit.length
            )
        return wanted + self._num_pages_owed() <= self._pool.num_unpinned_pages

    def _num_pages_owed(self) -> int:
        """Pages that the running requests lack for the tokens they know."""
        return sum(
            self._pool.num_new_pages(request.seq_id, request.num_tokens)
            for request in self.running
            if request.seq_id is not None
        )

    def _start(self, plan: Plan, request: Request, hit: PrefixMatch | None) -> None:
        """Give a request its sequence, and as many tokens as the budget has left."""
        request.num_computed = hit.length if hit else 0
        if request.num_cached is None:
            request.num_cached = request.num_computed
        if hit:
            request.seq_id = self._pool.fork(hit.seq_id, hit.length)
            self._cache.touch(hit.seq_id)
        else:
            request.seq_id = self._pool.add()
        insort(self.running, request, key=lambda running: running.spec.arrival)
        plan.admitted.append(request)
        self._plan_tokens(plan, request)

"""Who computes how many tokens in the next forward pass.

A request has tokens it knows and tokens it has computed; a plan lets the second catch up with the first,
within a budget of tokens, sequences and pages. Prompts in chunks, prefix hits and resumption after preemption
are that same arithmetic. Owns the waiting and running lists; runs on the engine's thread. Knows no logits, no
clock and no metrics.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from mlc_serve.engine.admission import Admission
from mlc_serve.engine.limits import EngineLimits
from mlc_serve.engine.pacing import Pacing
from mlc_serve.engine.plan import Plan, PlanEntry
from mlc_serve.engine.prefix_cache import PrefixCache
from mlc_serve.engine.radix_tree import PrefixMatch
from mlc_serve.engine.request import Request, RequestState
from mlc_serve.engine.sequence_pool import SequencePool
from mlc_serve.engine.waiting import WaitingLine

# Tokens that may well come next for a request that decodes; none is fine.
Drafts = Callable[[Request], Sequence[int]]


@dataclass
class _Planning:
    """A plan that is being made: what is left of the budget, the prompt tokens that are granted and have no
    entry yet, and who is held back because another computes the same prompt.
    """

    num_tokens_left: int
    plan: Plan = field(default_factory=Plan)
    granted: dict[Request, int] = field(default_factory=dict)
    held_back: set[Request] = field(default_factory=set)


def no_drafts(_request: Request) -> Sequence[int]:
    """Every request draws one token at a time."""
    return ()


class Scheduler:
    """Of what prompts may take, half goes in order of arrival and half to those with the least left.

    So a prompt is done after at most twice the tokens that it and those before it have left, and a short one
    does not wait for long ones. `running` is in order of arrival; whoever came last gives way when pages run
    out. Requests that were admitted hold a sequence, waiting ones don't. No page is asked of the KV cache
    that is not free.
    """

    def __init__(
        self,
        limits: EngineLimits,
        pool: SequencePool,
        cache: PrefixCache,
        pacing: Pacing,
        drafts: Drafts = no_drafts,
    ) -> None:
        self._budget = limits.prefill_chunk_size
        self._max_running = min(limits.max_num_sequence, limits.prefill_chunk_size)
        self._fill = {"hybrid": self._fill_hybrid, "chunked": self._fill_chunked}[limits.prefill_mode]
        self._pool = pool
        self._cache = cache
        self._pacing = pacing
        self._drafts = drafts
        self._admission = Admission(self._max_running, pool, cache)
        self.waiting = WaitingLine()
        self.running: list[Request] = []

    def add(self, request: Request) -> None:
        """Let a request wait for its turn."""
        self.waiting.add(request)

    def remove(self, request: Request) -> None:
        """Forget a request that waits or runs; what it has computed goes to the prefix cache."""
        if request.state is RequestState.WAITING:
            self.waiting.remove(request)
        else:
            self.running.remove(request)
            self._cache.recycle(request)
            request.seq_id = None
        request.state = RequestState.ENDED

    def plan(self) -> Plan:
        """The next forward pass. Empty only if there is no request: the oldest running one is never
        preempted.
        """
        planning = _Planning(self._budget)
        self._fill(planning)
        while not planning.plan.entries and len(self.running) > 1:
            self._preempt_latest(planning.plan)
            self._fill(planning)
        return planning.plan

    def _fill_hybrid(self, planning: _Planning) -> None:
        """Decodes go first, and prompts take what is left of the budget as far as the decodes can bear it."""
        self._plan_decodes(planning)
        num_decodes = len(planning.plan.entries)
        num_prompts = min(len(self.running) + len(self.waiting), self._max_running) - num_decodes
        if num_decodes and num_prompts:
            bearable = self._pacing.prompt_tokens(num_decodes, num_prompts)
            planning.num_tokens_left = min(planning.num_tokens_left, bearable)
        if num_prompts:
            self._plan_prompts(planning)

    def _fill_chunked(self, planning: _Planning) -> None:
        """Decodes wait as long as some prompt can be worked on; pages that they then give back may serve
        prompts.
        """
        for fill in (self._plan_prompts, self._plan_decodes, self._plan_prompts):
            if not planning.plan.entries:
                fill(planning)

    def _plan_decodes(self, planning: _Planning) -> None:
        """Draws beyond one for each request that takes part, or may start in this pass, can go to drafts."""
        plan = planning.plan
        num_spare_draws = max(0, self._max_running - len(self.running) - len(self.waiting))
        for request in [request for request in self.running if request.is_decoding]:
            while request.seq_id is not None and not self._make_room(request.seq_id, 1):
                self._preempt_latest(plan)
            if request.seq_id is not None:
                entry = self._decode_entry(request, request.seq_id, num_spare_draws)
                num_drafts = len(entry.draft_ids)
                self._pool.grow(entry.seq_id, 1 + num_drafts)
                plan.entries.append(entry)
                planning.num_tokens_left -= 1 + num_drafts
                num_spare_draws -= num_drafts

    def _decode_entry(self, request: Request, seq_id: int, num_spare_draws: int) -> PlanEntry:
        """With as many drafts as fit without taking anything from others. The last token needs no draft."""
        draws = request.num_tokens < request.max_length
        most = min(num_spare_draws, request.max_length - request.num_tokens - 1, self._pool.room(seq_id) - 1)
        draft_ids = self._drafts(request)[:most] if most > 0 else ()
        return PlanEntry(request, seq_id, 1, draws, is_decode=True, draft_ids=draft_ids)

    def _plan_prompts(self, planning: _Planning) -> None:
        """Half to those with the least left, the rest in order of arrival; waiting requests start as their
        turn comes.
        """
        waiting = self.waiting.shortest_first()
        shortest = sorted(self._candidates(waiting), key=_num_left)
        self._plan_in_turn(planning, planning.num_tokens_left // 2, shortest)
        in_order = sorted(self._candidates(self.waiting), key=_arrival)
        self._plan_in_turn(planning, planning.num_tokens_left, in_order)
        granted = planning.granted.items()
        planning.plan.entries += [_prompt_entry(request, num_tokens) for request, num_tokens in granted]
        planning.granted.clear()

    def _candidates(self, waiting: Iterable[Request]) -> list[Request]:
        """Running prompts, and as many of the waiting as a cheap plan can look at."""
        prompts = [request for request in self.running if not request.is_decoding]
        return prompts + list(islice(waiting, 2 * self._max_running))

    def _plan_in_turn(self, planning: _Planning, budget: int, candidates: Iterable[Request]) -> None:
        """Grant up to `budget` tokens. After a request that has no place only running ones are served."""
        has_place = True
        for request in candidates:
            if not budget:
                return
            if request.state is RequestState.WAITING and has_place:
                has_place = self._try_start(planning, request)
            if request.state is RequestState.RUNNING:
                budget -= self._grant(planning, request, budget)

    def _try_start(self, planning: _Planning, request: Request) -> bool:
        """Start a waiting request unless it is held back; False if no other need be tried."""
        if len(self.running) >= self._max_running:
            return False
        if request in planning.held_back:
            return True
        hit = self._admission.match(request)
        if self._admission.is_held_back(request, hit, self.running):
            planning.held_back.add(request)
            return len(planning.held_back) < self._max_running
        if not self._admission.may_start(request, hit, self.running, self.waiting.first):
            return False
        self._start(planning.plan, request, hit)
        return True

    def _grant(self, planning: _Planning, request: Request, budget: int) -> int:
        """Let a running request compute more, as budget and pages allow; how many tokens that is."""
        seq_id, granted = request.held_seq_id, planning.granted.get(request, 0)
        wanted = min(request.num_uncomputed - granted, budget)
        self._make_room(seq_id, wanted)
        num_tokens = min(wanted, self._pool.room(seq_id))
        if num_tokens:
            self._pool.grow(seq_id, num_tokens)
            planning.num_tokens_left -= num_tokens
            planning.granted[request] = granted + num_tokens
        return num_tokens

    def _make_room(self, seq_id: int, num_tokens: int) -> bool:
        """Evict what it takes for a running request to append `num_tokens`; False if that is not enough."""
        while self._pool.room(seq_id) < num_tokens:
            if not self._cache.evict():
                return False
        return True

    def _preempt_latest(self, plan: Plan) -> None:
        """Take the pages of the request that came last. It waits in its old place, is not passed over again,
        and computes its tokens anew.
        """
        request = self.running.pop()
        self._cache.discard(request)
        request.seq_id = None
        request.state = RequestState.WAITING
        request.num_computed = 0
        request.was_passed_over = True
        self.waiting.add(request)
        plan.preempted.append(request)

    def _start(self, plan: Plan, request: Request, hit: PrefixMatch | None) -> None:
        """Give a waiting request its sequence."""
        self.waiting.remove(request)
        request.num_computed = hit.length if hit else 0
        if request.num_cached is None:
            request.num_cached = request.num_computed
        if hit:
            request.seq_id = self._pool.fork(hit.seq_id, hit.length)
            self._cache.touch(hit.seq_id)
        else:
            request.seq_id = self._pool.add()
        request.state = RequestState.RUNNING
        insort(self.running, request, key=_arrival)
        plan.admitted.append(request)


def _prompt_entry(request: Request, num_tokens: int) -> PlanEntry:
    draws = num_tokens == request.num_uncomputed and request.num_tokens < request.max_length
    return PlanEntry(request, request.held_seq_id, num_tokens, draws, request.is_decoding)


def _arrival(request: Request) -> float:
    return request.spec.arrival


def _num_left(request: Request) -> tuple[int, float]:
    return request.num_uncomputed, request.spec.arrival

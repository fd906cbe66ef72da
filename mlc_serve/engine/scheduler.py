"""Decides which requests compute how many tokens in the next forward pass.

A request has known tokens, and some of them are computed. A plan computes more of them within a budget of
tokens, sequences and pages. Chunked prefill, prefix hits and resumption after preemption all follow from this
one rule. Owns the waiting and running lists; runs on the engine's thread. Knows nothing about logits, clocks
or metrics.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
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
from mlc_serve.engine.speculation.proposer import Ask
from mlc_serve.engine.speculation.speculation import Speculation
from mlc_serve.engine.waiting import WaitingLine


@dataclass
class _Planning:
    """A plan that is being made.

    `num_tokens_left` is the rest of the budget, and `num_scored_left` that of the budget for prompt tokens
    whose logprobs are wanted. `granted` are prompt tokens that have no entry yet, and `held_back` are
    requests that wait because another one computes the same prompt.
    """

    num_tokens_left: int
    num_scored_left: int
    plan: Plan = field(default_factory=Plan)
    granted: dict[Request, int] = field(default_factory=dict)
    held_back: set[Request] = field(default_factory=set)


class Scheduler:
    """Gives half of the prompt tokens of a pass to the prompts with the least left, and half in order of
    arrival.

    Thus a prompt waits for at most twice as many prompt tokens as it and those before it have left, and a
    short one does not wait for long ones. `running` is in order of arrival; when pages run out, the request
    that arrived last is preempted. Running requests hold a sequence, waiting ones don't. A plan never takes
    more pages than are free.
    """

    def __init__(
        self,
        limits: EngineLimits,
        pool: SequencePool,
        cache: PrefixCache,
        pacing: Pacing,
        speculation: Speculation,
    ) -> None:
        self._budget = limits.prefill_chunk_size
        self._scored_budget = limits.max_scored_tokens
        self._max_draws = limits.max_draws
        self._max_running = min(limits.max_num_sequence, limits.prefill_chunk_size)
        self._fill = {"hybrid": self._fill_hybrid, "chunked": self._fill_chunked}[limits.prefill_mode]
        self._pool = pool
        self._cache = cache
        self._pacing = pacing
        self._speculation = speculation
        self._admission = Admission(self._max_running, pool, cache)
        self.waiting = WaitingLine()
        self.running: list[Request] = []

    def add(self, request: Request) -> None:
        """Add a request to the waiting ones."""
        self.waiting.add(request)

    def remove(self, request: Request) -> None:
        """Forget a waiting or running request, and give its sequence to the prefix cache."""
        if request.state is RequestState.WAITING:
            self.waiting.remove(request)
        else:
            self.running.remove(request)
            self._cache.recycle(request)
        request.end()

    def plan(self) -> Plan:
        """Return the next forward pass. It is empty only if there is no request, because the oldest running
        request is never preempted.
        """
        planning = _Planning(self._budget, self._scored_budget)
        self._fill(planning)
        while not planning.plan.entries and len(self.running) > 1:
            self._preempt_latest(planning.plan)
            self._fill(planning)
        return planning.plan

    def _fill_hybrid(self, planning: _Planning) -> None:
        """Plan decodes first, then prompts within the rest of the budget and the limit that Pacing sets."""
        self._plan_decodes(planning)
        num_decodes = len(planning.plan.entries)
        num_prompts = min(len(self.running) + len(self.waiting), self._max_running) - num_decodes
        if num_decodes and num_prompts:
            num_allowed = self._pacing.prompt_tokens(num_decodes, num_prompts)
            planning.num_tokens_left = min(planning.num_tokens_left, num_allowed)
        if num_prompts:
            self._plan_prompts(planning)

    def _fill_chunked(self, planning: _Planning) -> None:
        """Plan prompts, or decodes only if no prompt can be computed. If no decode can be computed either,
        the pages of requests that were preempted may be enough for a prompt.
        """
        for fill in (self._plan_prompts, self._plan_decodes, self._plan_prompts):
            if not planning.plan.entries:
                fill(planning)

    def _plan_decodes(self, planning: _Planning) -> None:
        """Plan one token for each decoding request, and drafts as far as nobody else needs the room."""
        plan = planning.plan
        for request in [request for request in self.running if request.is_decoding]:
            while request.seq_id is not None and not self._make_room(request.seq_id, 1):
                self._preempt_latest(plan)
            if request.seq_id is not None:
                self._pool.grow(request.seq_id, 1)
                draws = request.num_tokens < request.max_length
                plan.entries.append(PlanEntry(request, request.seq_id, 1, draws, is_decode=True))
                planning.num_tokens_left -= 1
        self._plan_drafts(planning)

    def _plan_drafts(self, planning: _Planning) -> None:
        """Add drafts to the decodes that are planned. Prompts, if there are any, keep half of the budget."""
        entries = planning.plan.entries
        num_requests = len(self.running) + len(self.waiting)
        num_left = planning.num_tokens_left // (1 if num_requests == len(entries) else 2)
        num_spare = min(num_left, self._max_draws - min(num_requests, self._max_running))
        lengths = self._speculation.lengths([entry.request for entry in entries], num_spare)
        if not any(lengths):
            return
        rooms = [self._take_draft_room(entry, wanted) for entry, wanted in zip(entries, lengths, strict=True)]
        drafted = [(place, most) for place, most in enumerate(rooms) if most]
        drafts = self._speculation.propose([Ask(entries[place].request, most) for place, most in drafted])
        for (place, most), draft_ids in zip(drafted, drafts, strict=True):
            entry = entries[place]
            self._pool.give_back(entry.seq_id, most - len(draft_ids))
            entries[place] = entry._replace(draft_ids=draft_ids)
            planning.num_tokens_left -= len(draft_ids)

    def _take_draft_room(self, entry: PlanEntry, wanted: int) -> int:
        """Take pages for up to `wanted` drafts, as many as can be kept and taken back, and return the number.
        The last token of a request is not drafted.
        """
        most = min(wanted, entry.request.max_length - entry.request.num_tokens - 1)
        if self._pool.longest_shrink is not None:
            most = min(most, self._pool.longest_shrink)
        if most <= 0:
            return 0
        self._make_room(entry.seq_id, most)
        most = min(most, self._pool.room(entry.seq_id))
        self._pool.grow(entry.seq_id, most)
        return most

    def _plan_prompts(self, planning: _Planning) -> None:
        """Give half of the budget to the prompts with the least left, and the rest in order of arrival.

        Waiting requests start when their turn comes.
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
        """Return the running prompts and the first few waiting ones, so that planning stays cheap."""
        prompts = [request for request in self.running if not request.is_decoding]
        return prompts + list(islice(waiting, 2 * self._max_running))

    def _plan_in_turn(self, planning: _Planning, budget: int, candidates: Iterable[Request]) -> None:
        """Grant up to `budget` tokens. Once a waiting request can't start, only running ones get tokens."""
        has_place = True
        for request in candidates:
            if not budget:
                return
            if request.state is RequestState.WAITING and has_place:
                has_place = self._try_start(planning, request)
            if request.state is RequestState.RUNNING:
                budget -= self._grant(planning, request, budget)

    def _try_start(self, planning: _Planning, request: Request) -> bool:
        """Start a waiting request unless it is held back. Return False if no other can start either."""
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
        """Let a running request compute as many tokens as budget and pages allow, and return their number."""
        seq_id, granted = request.held_seq_id, planning.granted.get(request, 0)
        wanted = min(request.num_uncomputed - granted, budget)
        if not request.may_reuse_prefix:
            wanted = min(wanted, planning.num_scored_left)
        self._make_room(seq_id, wanted)
        num_tokens = min(wanted, self._pool.room(seq_id))
        if num_tokens:
            self._pool.grow(seq_id, num_tokens)
            planning.num_tokens_left -= num_tokens
            planning.num_scored_left -= 0 if request.may_reuse_prefix else num_tokens
            planning.granted[request] = granted + num_tokens
        return num_tokens

    def _make_room(self, seq_id: int, num_tokens: int) -> bool:
        """Evict until `num_tokens` can be appended to a sequence; return False if that is impossible."""
        while self._pool.room(seq_id) < num_tokens:
            if not self._cache.evict():
                return False
        return True

    def _preempt_latest(self, plan: Plan) -> None:
        """Take the pages of the running request that arrived last. It waits in its order of arrival, is not
        passed over again, and recomputes its tokens.
        """
        request = self.running.pop()
        self._cache.discard(request)
        request.wait_again()
        request.was_passed_over = True
        self.waiting.add(request)
        plan.preempted.append(request)

    def _start(self, plan: Plan, request: Request, hit: PrefixMatch | None) -> None:
        """Move a waiting request to the running ones, and give it a sequence."""
        self.waiting.remove(request)
        request.num_computed = hit.length if hit else 0
        if request.num_cached is None:
            request.num_cached = request.num_computed
        if hit:
            request.start(self._pool.fork(hit.seq_id, hit.length))
            self._cache.touch(hit.seq_id)
        else:
            request.start(self._pool.add())
        insort(self.running, request, key=_arrival)
        plan.admitted.append(request)


def _prompt_entry(request: Request, num_tokens: int) -> PlanEntry:
    draws = num_tokens == request.num_uncomputed and request.num_tokens < request.max_length
    return PlanEntry(request, request.held_seq_id, num_tokens, draws, request.is_decoding)


def _arrival(request: Request) -> float:
    return request.spec.arrival


def _num_left(request: Request) -> tuple[int, float]:
    return request.num_uncomputed, request.spec.arrival

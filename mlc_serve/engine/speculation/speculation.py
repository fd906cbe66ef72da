"""Speculative decoding as the engine sees it: who is drafted for, how many tokens, and which ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from mlc_serve.engine.plan import Plan
from mlc_serve.engine.request import Request
from mlc_serve.engine.speculation.draft_lengths import DraftLengths, FixedLengths
from mlc_serve.engine.speculation.proposer import Ask, NoDrafts, Proposer


class Speculation:
    """Asks the proposer for as many drafts as the lengths say. Runs on the engine's thread.

    `clock` returns seconds.
    """

    def __init__(
        self,
        proposer: Proposer,
        lengths: DraftLengths,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._proposer = proposer
        self._lengths = lengths
        self._clock = clock
        self._draft_seconds = 0.0

    @classmethod
    def none(cls) -> Speculation:
        """Return a speculation that drafts for no request."""
        return cls(NoDrafts(), FixedLengths(0))

    @property
    def is_on(self) -> bool:
        """Whether anything may be drafted."""
        return not isinstance(self._proposer, NoDrafts)

    @property
    def draft_seconds(self) -> float:
        """What drafting for the latest plan took."""
        return self._draft_seconds

    def lengths(self, requests: Sequence[Request], num_spare: int) -> list[int]:
        """Return the number of drafts to ask for, for each request, at most `num_spare` in all."""
        self._draft_seconds = 0.0
        if not requests or num_spare <= 0:
            return [0] * len(requests)
        return self._lengths.choose(requests, num_spare)

    def propose(self, asks: Sequence[Ask]) -> list[Sequence[int]]:
        """Return the drafts for each ask, at most as many as asked for."""
        if not asks:
            return []
        start = self._clock()
        drafts = self._proposer.propose(asks)
        self._draft_seconds = self._clock() - start
        return drafts

    def measured(self, plan: Plan, seconds: float) -> None:
        """Learn from the forward pass of a plan, which took `seconds`."""
        if plan.num_prompt_tokens:
            return
        self._lengths.measured(plan.num_decode_rows, plan.longest_draft, self._draft_seconds, seconds)

    def committed(self, request: Request, num_drafts: int, num_kept: int) -> None:
        """Learn how many of the drafts (at least one) of a request were kept."""
        self._lengths.committed(request, num_drafts, num_kept)

    def forget(self, request: Request) -> None:
        """Keep nothing of a request, which has ended."""
        self._lengths.forget(request)
        self._proposer.forget(request)

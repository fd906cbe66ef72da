"""Counts of drafts by their place, as MLC-LLM reports them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate, pairwise
from typing import Any


class DraftCounts:
    """Counts how often a pass checked a token at each place, and how often it was kept there.

    Place 0 is that of the token which was drawn before the pass, and is always kept; the first draft is at
    place 1. Only passes in which a request has drafts are counted, once for each such request.
    """

    def __init__(self) -> None:
        self._checked: list[int] = []
        self._kept: list[int] = []

    def add(self, num_drafts: int, num_kept: int) -> None:
        """Count the drafts (at least one) of one request in one pass."""
        for counts, num_places in ((self._checked, num_drafts + 1), (self._kept, num_kept + 1)):
            counts.extend([0] * (num_drafts + 1 - len(counts)))
            for place in range(num_places):
                counts[place] += 1

    def snapshot(self) -> dict[str, Any]:
        """Return the counts under MLC-LLM's names, with shares by step; an empty dict if there are none.

        `accept_prob` is the share of tokens that were kept at a place, `accept_rate` the share of them among
        those whose predecessor was kept, and `accept_len` the number that a pass keeps up to there.
        """
        checked, kept = list(self._checked), list(self._kept)
        if not checked:
            return {}
        shares = [_share(count, of) for count, of in zip(kept, checked, strict=False)]
        rates = (_share(count, before) for before, count in pairwise(kept))
        return {
            "draft_count": checked,
            "accept_count": kept,
            "accept_prob": dict(_by_step("accept_prob", shares)),
            "accept_rate": dict(_by_step("accept_rate", rates, first=1)),
            "accept_len": dict(_by_step("accept_len", accumulate(shares))),
        }


def _share(count: int, of: int) -> float:
    return count / of if of else 0.0


def _by_step(name: str, values: Iterable[float], first: int = 0) -> Iterable[tuple[str, float]]:
    """Yield values under the names that MLC-LLM writes for them, which are Prometheus' with a label."""
    return ((f"{name}{{step={step}}}", value) for step, value in enumerate(values, first))

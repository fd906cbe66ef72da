"""Drafts of answers that are known, which are right at a set rate."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from mlc_serve.bench.closed_loop import TOKEN_IDS
from mlc_serve.engine.request import Request
from mlc_serve.engine.speculation.proposer import Ask


@dataclass
class KnownAnswers:
    """Implements Proposer for prompts with known `answers`. Each draft is right with the probability `rate`,
    whatever became of those before it.
    """

    rate: float
    answers: dict[tuple[int, ...], Sequence[int]] = field(default_factory=dict)
    chance: random.Random = field(default_factory=lambda: random.Random(0))

    def propose(self, asks: Sequence[Ask]) -> list[Sequence[int]]:
        """See Proposer."""
        return [self._drafts(ask) for ask in asks]

    def forget(self, request: Request) -> None:
        """See Proposer. Answers are kept."""

    def _drafts(self, ask: Ask) -> list[int]:
        start = len(ask.request.output_ids)
        right = self.answers.get(ask.request.spec.prompt_ids, ())[start : start + ask.most]
        return [token if self.chance.random() < self.rate else _other(token) for token in right]


def _other(token: int) -> int:
    """Another token."""
    return next(other for other in TOKEN_IDS if other != token)

"""A proposer for a FakeBackend whose drafts are right up to a known place."""

from __future__ import annotations

from collections.abc import Sequence

from mlc_serve.engine.request import Request
from mlc_serve.engine.sampling import Draw, SamplingParams
from mlc_serve.engine.speculation.draft_lengths import FixedLengths
from mlc_serve.engine.speculation.proposer import Ask
from mlc_serve.engine.speculation.speculation import Speculation
from mlc_serve.testing import likely_letter

# A FakeBackend never draws it.
_WRONG = ord("?")


class PartlyRight:
    """Implements Proposer: the first `num_right` drafts of a greedy request are right, the others wrong."""

    def __init__(self, num_right: int) -> None:
        self._num_right = num_right

    def propose(self, asks: Sequence[Ask]) -> list[Sequence[int]]:
        """See Proposer."""
        return [self._drafts(ask.request, ask.most) for ask in asks]

    def forget(self, request: Request) -> None:
        """See Proposer."""

    def _drafts(self, request: Request, most: int) -> Sequence[int]:
        known = list(request.known_ids(0, request.num_tokens))
        draw = Draw(SamplingParams(temperature=0.0), (), (), 0)
        for _ in range(min(self._num_right, most)):
            known.append(likely_letter(known, draw))
        return [*known[request.num_tokens :], *[_WRONG] * (most - self._num_right)]


def partly_right(num_drafts: int, num_right: int) -> Speculation:
    """A speculation that always drafts so many tokens, of which so many are right."""
    return Speculation(PartlyRight(num_right), FixedLengths(num_drafts))

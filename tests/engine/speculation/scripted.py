"""A speculation for a FakeBackend whose drafts are right up to a known place."""

from __future__ import annotations

from collections.abc import Sequence

from mlc_serve.engine.request import Request
from mlc_serve.engine.sampling import Draw, SamplingParams
from mlc_serve.engine.speculation.draft_lengths import FixedLengths
from mlc_serve.engine.speculation.speculation import Speculation
from mlc_serve.testing import FakeProposer, likely_letter

# A FakeBackend never draws it.
_WRONG = ord("?")


def partly_right(num_drafts: int, num_right: int) -> Speculation:
    """Return a speculation that always drafts so many tokens of a greedy request, of which so many are
    right.
    """

    def tell(request: Request, most: int) -> Sequence[int]:
        known = list(request.known_ids(0, request.num_tokens))
        draw = Draw(SamplingParams(temperature=0.0), (), (), 0)
        for _ in range(min(num_right, most)):
            known.append(likely_letter(known, draw))
        return [*known[request.num_tokens :], *[_WRONG] * (most - num_right)]

    return Speculation(FakeProposer(tell), FixedLengths(num_drafts))

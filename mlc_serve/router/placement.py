"""Placement: which server should get a request. A pure function of what is known about the servers.

The best server has much of the prompt cached and little to do:

    score = share of the prompt that is cached - load_weight * (load - mean load) / max(1, mean load)

The same rule gives affinity and balance. A prompt that no server has cached goes to the server with the least
load, and among equals to the one whose last request is longest ago, so that new prompts are spread.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple


class Candidate(NamedTuple):
    """A server that may get the request. It is healthy, and has room for another request.

    `load` is its number of requests, running and waiting. `num_matched` is how much of the prompt's beginning
    it has cached, in the unit of the prompt's length. `last_used` is the time of its last request, in seconds
    of any clock.
    """

    name: str
    load: float
    num_matched: int
    last_used: float


def rank(candidates: Sequence[Candidate], num_tokens: int, load_weight: float = 1.0) -> list[Candidate]:
    """Return the candidates, the best first, for a prompt of `num_tokens` tokens.

    With a `load_weight` of 1, a wholly cached prompt outweighs a difference in load as large as the mean
    load.
    """
    if not candidates:
        return []
    mean = fmean(candidate.load for candidate in candidates)

    def order(candidate: Candidate) -> tuple[float, float, str]:
        share = candidate.num_matched / max(1, num_tokens)
        excess = (candidate.load - mean) / max(1.0, mean)
        return load_weight * excess - share, candidate.last_used, candidate.name

    return sorted(candidates, key=order)

"""Drafts without a model: what followed the last tokens of a sequence when they occurred in it before.

This pays where answers repeat their prompts or themselves: in edits, summaries and tool calls. It is known as
prompt lookup (Saxena, 2023).
"""

from __future__ import annotations

from collections.abc import Sequence

from mlc_serve.engine.request import Request
from mlc_serve.engine.speculation.proposer import Ask
from mlc_serve.engine.speculation.suffixes import Suffixes

# The fewest tokens that must have occurred before.
_LEAST_MATCH = 2
# Up to this many drafts for each token of the match.
_DRAFTS_PER_TOKEN = 2
# The most tokens of all requests together that are indexed in one pass, so that long prompts hold up nobody.
_MOST_INDEXED = 1024


class NGram:
    """Implements Proposer. It searches the tokens of each request on its own, so that nothing is learned from
    other requests.
    """

    def __init__(self) -> None:
        self._suffixes: dict[Request, Suffixes] = {}

    def propose(self, asks: Sequence[Ask]) -> list[Sequence[int]]:
        """See Proposer. Requests of which the most is indexed come first."""
        budget = _MOST_INDEXED
        for request in sorted((ask.request for ask in asks), key=self._num_missing):
            budget -= self._index(request, budget)
        return [self._drafts(ask.request, ask.most) for ask in asks]

    def forget(self, request: Request) -> None:
        """See Proposer."""
        self._suffixes.pop(request, None)

    def _of(self, request: Request) -> Suffixes:
        return self._suffixes.setdefault(request, Suffixes())

    def _num_missing(self, request: Request) -> int:
        return request.num_tokens - self._of(request).num_tokens

    def _index(self, request: Request, budget: int) -> int:
        """Index up to `budget` more tokens of a request, and return their number."""
        count, start = min(budget, self._num_missing(request)), self._of(request).num_tokens
        self._of(request).extend(request.known_ids(start, start + count))
        return count

    def _drafts(self, request: Request, most: int) -> Sequence[int]:
        length, end = self._of(request).match
        if self._num_missing(request) or length < _LEAST_MATCH:
            return ()
        count = min(most, _DRAFTS_PER_TOKEN * length)
        found = request.known_ids(end, min(end + count, request.num_tokens))
        return _repeated(found, count)


def _repeated(token_ids: Sequence[int], count: int) -> Sequence[int]:
    """Return the first `count` tokens of a sequence that goes on as it began, when its end is reached."""
    if len(token_ids) >= count:
        return token_ids
    return [token_ids[place % len(token_ids)] for place in range(count)]

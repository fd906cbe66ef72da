"""A proposer whose drafts a test tells."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mlc_serve.engine.request import Request
from mlc_serve.engine.speculation.proposer import Ask

# Returns the drafts for a request, at most as many as the number says.
Tell = Callable[[Request, int], Sequence[int]]


class FakeProposer:
    """Implements engine.speculation.proposer.Proposer. `asked` holds the asks of every call, and `ended` the
    requests that were forgotten.
    """

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self.asked: list[Sequence[Ask]] = []
        self.ended: list[Request] = []

    def propose(self, asks: Sequence[Ask]) -> list[Sequence[int]]:
        """See Proposer."""
        self.asked.append(asks)
        return [self._tell(ask.request, ask.most) for ask in asks]

    def forget(self, request: Request) -> None:
        """See Proposer."""
        self.ended.append(request)

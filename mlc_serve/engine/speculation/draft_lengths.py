"""The interface of what decides how many tokens are drafted, and its implementation with a fixed number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mlc_serve.engine.request import Request


class DraftLengths(Protocol):
    """Decides how many tokens are drafted for each request. Called on the engine's thread only."""

    def choose(self, requests: Sequence[Request], num_spare: int) -> list[int]:
        """Return the number of drafts for each decoding request, at most `num_spare` in all."""

    def committed(self, request: Request, num_drafts: int, num_kept: int) -> None:
        """Learn how many of the drafts (at least one) of a request were kept."""

    def measured(self, num_rows: int, longest: int, draft_seconds: float, seconds: float) -> None:
        """Learn from a pass without prompts over `num_rows` tokens, drafts included, that took `seconds`, and
        what drafting for it took. `longest` is the greatest number of drafts of a request.
        """

    def forget(self, request: Request) -> None:
        """Keep nothing of a request, which has ended."""


class FixedLengths:
    """Implements DraftLengths: the same number for each request, as far as there are spare rows."""

    def __init__(self, length: int) -> None:
        self._length = length

    def choose(self, requests: Sequence[Request], num_spare: int) -> list[int]:
        """See DraftLengths. If the rows are not enough for all, those at the front get theirs."""
        return [max(0, min(self._length, num_spare - place * self._length)) for place in range(len(requests))]

    def committed(self, request: Request, num_drafts: int, num_kept: int) -> None:
        """See DraftLengths."""

    def measured(self, num_rows: int, longest: int, draft_seconds: float, seconds: float) -> None:
        """See DraftLengths."""

    def forget(self, request: Request) -> None:
        """See DraftLengths."""

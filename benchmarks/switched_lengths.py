"""Draft lengths that can be switched off, so that one engine is measured with drafts and without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlc_serve.engine.request import Request
from mlc_serve.engine.speculation.draft_lengths import DraftLengths


@dataclass
class SwitchedLengths:
    """Implements DraftLengths by means of its own, which learn nothing while they are off. Counts the drafts,
    and those that are kept.
    """

    own: DraftLengths
    is_on: bool = False
    num_drafts: int = 0
    num_kept: int = 0

    @property
    def share_kept(self) -> float:
        """The share of drafts that were kept, 0 if there were none."""
        return self.num_kept / max(self.num_drafts, 1)

    def choose(self, requests: Sequence[Request], num_spare: int) -> list[int]:
        """See DraftLengths."""
        return self.own.choose(requests, num_spare) if self.is_on else [0] * len(requests)

    def committed(self, request: Request, num_drafts: int, num_kept: int) -> None:
        """See DraftLengths."""
        self.num_drafts += num_drafts
        self.num_kept += num_kept
        self.own.committed(request, num_drafts, num_kept)

    def measured(self, num_rows: int, longest: int, draft_seconds: float, seconds: float) -> None:
        """See DraftLengths."""
        if self.is_on:
            self.own.measured(num_rows, longest, draft_seconds, seconds)

    def forget(self, request: Request) -> None:
        """See DraftLengths."""
        self.own.forget(request)

"""How many drafts one request had, and how many of them were kept."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class DraftTotals(NamedTuple):
    """The passes in which a request had drafts, the drafts in all of them, and those that were kept."""

    num_passes: int = 0
    num_drafts: int = 0
    num_kept: int = 0

    def with_pass(self, num_drafts: int, num_kept: int) -> DraftTotals:
        """Return the totals after one more pass with drafts."""
        return DraftTotals(self.num_passes + 1, self.num_drafts + num_drafts, self.num_kept + num_kept)

    @classmethod
    def of_all(cls, totals: Iterable[DraftTotals]) -> DraftTotals:
        """Return the totals of several requests together."""
        return cls(*map(sum, zip(*totals, strict=True)))

    @property
    def tokens_per_pass(self) -> float | None:
        """The tokens of a pass with drafts on average: those kept, and one more. None without passes."""
        return 1 + self.num_kept / self.num_passes if self.num_passes else None

    @property
    def share_kept(self) -> float | None:
        """The share of drafts that were kept; None without drafts."""
        return self.num_kept / self.num_drafts if self.num_drafts else None

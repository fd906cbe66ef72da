"""A plan for one forward pass: which requests compute how many tokens, and which draw one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mlc_serve.engine.request import Request


class PlanEntry(NamedTuple):
    """A request computes its next `num_tokens` known tokens on `seq_id`, and draws the next one if `draws`.

    A decoding request may compute `draft_ids` after its one known token, to draw several tokens at once.
    """

    request: Request
    seq_id: int
    num_tokens: int
    draws: bool
    is_decode: bool
    draft_ids: Sequence[int] = ()


@dataclass
class Plan:
    """One forward pass, and the requests that were admitted and preempted while it was planned."""

    entries: list[PlanEntry] = field(default_factory=list)
    admitted: list[Request] = field(default_factory=list)
    preempted: list[Request] = field(default_factory=list)

    @property
    def num_decodes(self) -> int:
        """The number of entries that compute only the token that was drawn last."""
        return sum(entry.is_decode for entry in self.entries)

    @property
    def num_decode_rows(self) -> int:
        """The number of tokens in these entries, drafts included."""
        return sum(1 + len(entry.draft_ids) for entry in self.entries if entry.is_decode)

    @property
    def longest_draft(self) -> int:
        """The greatest number of drafts of an entry."""
        return max((len(entry.draft_ids) for entry in self.entries), default=0)

    @property
    def num_prompt_tokens(self) -> int:
        """The number of tokens in all other entries."""
        return sum(entry.num_tokens for entry in self.entries if not entry.is_decode)

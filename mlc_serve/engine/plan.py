"""A plan for one forward pass: which requests compute how many tokens, and which of them draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mlc_serve.engine.request import Request


class PlanEntry(NamedTuple):
    """A request computes its next `num_tokens` known tokens on `seq_id`, and draws another if `draws`.

    One that decodes may compute drafts behind its one known token, to draw several at once.
    """

    request: Request
    seq_id: int
    num_tokens: int
    draws: bool
    is_decode: bool
    draft_ids: Sequence[int] = ()


@dataclass
class Plan:
    """One forward pass, and what making it did: who was admitted, who gave its pages back."""

    entries: list[PlanEntry] = field(default_factory=list)
    admitted: list[Request] = field(default_factory=list)
    preempted: list[Request] = field(default_factory=list)

    @property
    def num_decodes(self) -> int:
        """Entries that compute the token drawn last, and nothing else."""
        return sum(entry.is_decode for entry in self.entries)

    @property
    def num_prompt_tokens(self) -> int:
        """Tokens of all other entries."""
        return sum(entry.num_tokens for entry in self.entries if not entry.is_decode)

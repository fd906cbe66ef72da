"""The drafts of requests, as they grow token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mlc_serve.engine.request import Request
from mlc_serve.engine.speculation.proposer import Ask
from mlc_serve.runtime.rows import Logits
from mlc_serve.runtime.sampler import Sampler


@dataclass(eq=False)
class Draft:
    """The draft of a request, which may grow to `most` tokens."""

    request: Request
    most: int
    drafts: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, ask: Ask) -> Draft:
        """An empty draft."""
        return cls(ask.request, ask.most)

    @property
    def seq_id(self) -> int:
        """The sequence that the request holds."""
        return self.request.held_seq_id

    @property
    def may_grow(self) -> bool:
        """Whether another token may be drafted."""
        return len(self.drafts) < self.most


def extended(drafts: Sequence[Draft], logits: Logits, sampler: Sampler) -> list[Draft]:
    """Draw the next token of each draft from its row of logits, and return the drafts that got one.

    A token is drawn as the model's own is: with the request's parameters, and with the same random number. So
    the closer the two distributions are, the more often the two draws are equal.
    """
    draws = [draft.request.draw.after(draft.drafts) for draft in drafts]
    grown: list[Draft] = []
    for draft, guess in zip(drafts, sampler.guess(logits, draws), strict=True):
        if guess is not None:
            draft.drafts.append(guess)
            grown.append(draft)
    return grown

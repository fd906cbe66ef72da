"""How likely the drafts of requests are to be kept."""

from __future__ import annotations

from dataclasses import dataclass

# What is left of older drafts' weight with each further draft of the same request.
_DECAY = 0.9
# The weight of what is expected before any draft was checked, as a number of older drafts.
_PRIOR_WEIGHT = 2.0
# What is expected if nothing is known.
_FIRST_RATE = 0.6
# After a length of 0, a request is tried again after this many passes, then twice as many, and so on.
_FIRST_PAUSE, _LONGEST_PAUSE = 8, 128


@dataclass(slots=True)
class Acceptance:
    """The share of drafts that were kept among those that were checked, the latest counting most.

    A draft behind a wrong one is not checked. `decay` is what is left of older drafts' weight with each
    further one, and `expected` the weight that is left of what was expected before the first one.
    """

    decay: float = _DECAY
    kept: float = 0.0
    checked: float = 0.0
    expected: float = _PRIOR_WEIGHT

    def learn(self, num_drafts: int, num_kept: int) -> None:
        """Count the drafts of one pass."""
        num_checked = min(num_drafts, num_kept + 1)
        left: float = self.decay**num_checked
        self.kept = self.kept * left + num_kept
        self.checked = self.checked * left + num_checked
        self.expected *= left

    def rate(self, expected: float = _FIRST_RATE) -> float:
        """Return the probability that the next draft is kept, near `expected` as long as little is known."""
        return (self.kept + self.expected * expected) / (self.checked + self.expected)


@dataclass(slots=True)
class RequestDrafts:
    """What is known about the drafts of one request. `pause` is the number of passes without drafts after
    which it is tried again, and `num_idle` how many there have been.
    """

    acceptance: Acceptance
    pause: int = _FIRST_PAUSE
    num_idle: int = 0

    def learn(self, num_drafts: int, num_kept: int) -> None:
        """Count the drafts of one pass. If they were a trial, the next one comes later."""
        self.acceptance.learn(num_drafts, num_kept)
        self.num_idle = 0
        self.pause = min(2 * self.pause, _LONGEST_PAUSE)

    def chosen(self) -> None:
        """Note that drafts are expected to pay, so that a later trial comes soon."""
        self.num_idle = 0
        self.pause = _FIRST_PAUSE

    def idle(self) -> bool:
        """Count a pass in which drafts don't pay, and return whether it is time to try one again."""
        self.num_idle += 1
        return self.num_idle >= self.pause

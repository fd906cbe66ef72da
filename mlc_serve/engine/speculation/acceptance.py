"""How likely the drafts of requests are to be kept."""

from __future__ import annotations

from dataclasses import dataclass

# What is left of older drafts' weight with each further draft.
_DECAY = 0.9
# The weight of the average of all requests, as a number of drafts.
_PRIOR_WEIGHT = 2.0
# What is assumed before any draft was checked.
_FIRST_RATE = 0.6
# After a length of 0, a request is tried again after this many passes, then twice as many, and so on.
_FIRST_PAUSE, _LONGEST_PAUSE = 8, 128


@dataclass(slots=True)
class Acceptance:
    """The share of drafts that were kept among those that were checked, the latest counting most.

    A draft behind a wrong one is not checked.
    """

    kept: float = 0.0
    checked: float = 0.0

    def learn(self, num_drafts: int, num_kept: int) -> None:
        """Count the drafts of one pass."""
        num_checked = min(num_drafts, num_kept + 1)
        left: float = _DECAY**num_checked
        self.kept = self.kept * left + num_kept
        self.checked = self.checked * left + num_checked

    def rate(self, expected: float = _FIRST_RATE) -> float:
        """Return the probability that the next draft is kept, near `expected` as long as little is known."""
        return (self.kept + _PRIOR_WEIGHT * expected) / (self.checked + _PRIOR_WEIGHT)


@dataclass(slots=True)
class RequestDrafts:
    """What is known about the drafts of one request. `pause` is the number of passes without drafts after
    which it is tried again, and `num_idle` how many there have been.
    """

    acceptance: Acceptance
    pause: int = _FIRST_PAUSE
    num_idle: int = 0

    def learn(self, num_drafts: int, num_kept: int) -> None:
        """Count the drafts of one pass."""
        self.acceptance.learn(num_drafts, num_kept)
        self.num_idle = 0
        self.pause = _FIRST_PAUSE if num_kept else min(2 * self.pause, _LONGEST_PAUSE)

    def idle(self) -> bool:
        """Count a pass without drafts, and return whether it is time to try one again."""
        self.num_idle += 1
        return self.num_idle >= self.pause

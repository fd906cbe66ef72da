"""How long forward passes take, by the number of their tokens, as measured while serving."""

from __future__ import annotations

from bisect import bisect_left, insort

# The weight of a new measurement.
_RECENT = 0.2
# A measurement this many times as long as expected is a disturbance, and counts as this many times.
_MOST = 2.0
# Until a larger pass was measured, each further token is taken to add this share of the time, or half of what
# it would add in proportion, if that is less.
_ADDED, _HALF = 0.03, 0.5
# A pass without drafts is measured again after this many passes with them.
_MAX_AGE = 64
# What was not measured in this many passes is forgotten: since then, the machine may have become faster.
_MEMORY = 256


class PassTimes:
    """Seconds by number of tokens, as moving averages. Numbers between those measured are interpolated."""

    def __init__(self) -> None:
        self._numbers: list[int] = []
        self._seconds: dict[int, float] = {}
        self._ages: dict[int, int] = {}
        self._num_passes = 0

    def measured(self, num_rows: int, seconds: float) -> None:
        """Learn from a pass over `num_rows` tokens."""
        self._num_passes += 1
        expected = self.of(num_rows) if self._numbers else seconds
        weight = _RECENT if num_rows in self._seconds else 1.0
        if num_rows not in self._seconds:
            insort(self._numbers, num_rows)
        self._seconds[num_rows] = expected + weight * (min(seconds, _MOST * expected) - expected)
        self._ages[num_rows] = self._num_passes
        if self._num_passes % _MEMORY == 0:
            self._forget_old()

    def is_known(self, num_rows: int) -> bool:
        """Whether a pass over this many tokens was measured lately."""
        return num_rows in self._ages and self._num_passes - self._ages[num_rows] < _MAX_AGE

    @property
    def reach(self) -> int:
        """The most tokens of a pass that may be tried: little more than twice as many as were measured, so
        that a trial takes no longer than two passes.
        """
        return 2 * self._numbers[-1] + 2 if self._numbers else 0

    def of(self, num_rows: int) -> float:
        """Return the seconds that a pass is expected to take. At least one pass must have been measured."""
        place = bisect_left(self._numbers, num_rows)
        if place == len(self._numbers):
            largest = self._numbers[-1]
            added = min(_ADDED, _HALF / largest)
            return self._seconds[largest] * (1 + added * (num_rows - largest))
        above = self._numbers[place]
        if above == num_rows or place == 0:
            return self._seconds[above]
        below = self._numbers[place - 1]
        share = (num_rows - below) / (above - below)
        return self._seconds[below] + share * (self._seconds[above] - self._seconds[below])

    def _forget_old(self) -> None:
        self._numbers = [n for n in self._numbers if self._num_passes - self._ages[n] < _MEMORY]
        self._seconds = {n: self._seconds[n] for n in self._numbers}
        self._ages = {n: self._ages[n] for n in self._numbers}

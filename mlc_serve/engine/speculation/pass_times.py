"""How long forward passes take, by the number of their tokens, as measured while serving."""

from __future__ import annotations

from bisect import bisect_left, insort

# The weight of a new measurement.
_RECENT = 0.2
# A measurement this many times as long as expected is a disturbance, and counts as this many times.
_MOST = 2.0
# Until a larger pass was measured, each further token is taken to add this share of the time.
_ADDED = 0.03
# A pass without drafts is measured again after this many passes with them.
_MAX_AGE = 64


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
        known = self._seconds.get(num_rows)
        if known is None:
            insort(self._numbers, num_rows)
            self._seconds[num_rows] = seconds
        else:
            self._seconds[num_rows] = known + _RECENT * (min(seconds, _MOST * known) - known)
        self._ages[num_rows] = self._num_passes

    def is_known(self, num_rows: int) -> bool:
        """Whether a pass over this many tokens was measured lately."""
        return num_rows in self._ages and self._num_passes - self._ages[num_rows] < _MAX_AGE

    def of(self, num_rows: int) -> float:
        """Return the seconds that a pass is expected to take. At least one pass must have been measured."""
        place = bisect_left(self._numbers, num_rows)
        if place == len(self._numbers):
            largest = self._numbers[-1]
            return self._seconds[largest] * (1 + _ADDED * (num_rows - largest))
        above = self._numbers[place]
        if above == num_rows or place == 0:
            return self._seconds[above]
        below = self._numbers[place - 1]
        share = (num_rows - below) / (above - below)
        return self._seconds[below] + share * (self._seconds[above] - self._seconds[below])

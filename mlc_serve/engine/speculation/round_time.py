"""How long it takes to draft one more token for all requests that are drafted for."""

from __future__ import annotations

from mlc_serve.engine.request import Request

# The weight of a new measurement.
_RECENT = 0.2
# A round this many times as long as expected is a disturbance, and counts as this many times.
_MOST = 2.0


class RoundTime:
    """Follows the passes: `measured` once for each that has drafts, `drafted` for each request with some.

    Before the first round, a draft model computes what it has not seen of a sequence. So a pass counts only
    if all of its requests had drafts in the pass before, too, or if it was shorter than expected.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._is_known = False
        self._latest: float | None = None
        self._drafted: set[Request] = set()
        self._drafted_before: set[Request] = set()

    def measured(self, seconds: float) -> None:
        """Note what a round of the latest pass took."""
        self._latest = seconds

    def drafted(self, request: Request) -> None:
        """Note that a request had drafts in the latest pass."""
        self._drafted.add(request)

    def end_pass(self) -> None:
        """Learn from the latest pass, of which all is noted now."""
        if self._latest is not None:
            self._learn(self._latest, is_exact=self._drafted <= self._drafted_before)
        self._latest = None
        self._drafted_before, self._drafted = self._drafted, set()

    def _learn(self, seconds: float, *, is_exact: bool) -> None:
        if self._is_known and (is_exact or seconds < self.seconds):
            self.seconds += _RECENT * (min(seconds, _MOST * self.seconds) - self.seconds)
        elif is_exact:
            self.seconds, self._is_known = seconds, True

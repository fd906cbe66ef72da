"""Restarts: decides when a failed server is started again. The delay doubles, and there is a limit.

It reads no clock; the caller passes the time.
"""

from __future__ import annotations

from collections import deque

from mlc_serve.config import SupervisionConfig


class Restarts:
    """The restarts of one server. A restart counts for `restart_window` seconds."""

    def __init__(self, config: SupervisionConfig) -> None:
        self._config = config
        self._times: deque[float] = deque()

    def next_delay(self, now: float) -> float | None:
        """Count a restart, and return the seconds to wait before it, or None if there have been too many."""
        while self._times and self._times[0] <= now - self._config.restart_window:
            self._times.popleft()
        before = len(self._times)
        if before >= self._config.restart_limit:
            return None
        self._times.append(now)
        # The exponent is bounded, so that the float can't overflow, however high the limit is.
        return min(self._config.restart_delay * 2.0 ** min(before, 64), self._config.restart_max_delay)

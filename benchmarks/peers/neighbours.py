"""What others used of the cores during a measurement. Figures from a busy machine are worth little."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import psutil

IDLE = ("idle", "iowait", "guest", "guest_nice")  # guests' time is part of the user's


@dataclass(frozen=True)
class Moment:
    """Seconds so far: of the clock, of work on all cores, and of work of this process and its children."""

    clock: float
    busy: float
    own: float

    @classmethod
    def now(cls) -> Moment:
        """The seconds at this moment. Children count once they have ended."""
        times = psutil.cpu_times()._asdict()
        busy = sum(seconds for name, seconds in times.items() if name not in IDLE)
        return cls(time.monotonic(), busy, sum(os.times()[:4]))

    def others_until(self, end: Moment, cores: int) -> float:
        """The share of all cores, 0 to 1, that other processes and the hypervisor used until `end`."""
        others = (end.busy - self.busy) - (end.own - self.own)
        return min(max(others / (cores * (end.clock - self.clock)), 0.0), 1.0)

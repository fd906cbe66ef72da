"""What happened to each request and when, as events for Chrome's trace viewer.

The number of events is bounded, and the oldest are dropped first. Any thread may add events or call `dump`.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any, Protocol

from mlc_serve.engine.plan import Plan, PlanEntry

TraceEvent = dict[str, Any]


class Trace(Protocol):
    """Records what happens to requests. Times are time.monotonic() seconds."""

    def instant(self, request_id: str, name: str) -> None:
        """Record that something happened to a request just now."""

    def span(self, request_id: str, name: str, start: float, stop: float) -> None:
        """Record that something was done for a request from `start` to `stop`."""

    def step(self, plan: Plan, start: float, stop: float) -> None:
        """Record a forward pass."""

    def dump(self) -> list[TraceEvent] | None:
        """Return the events so far, oldest first, or None if none are recorded."""


class EventTrace:
    """Keeps the last `max_events` events."""

    def __init__(self, max_events: int = 100_000) -> None:
        self._events: deque[TraceEvent] = deque(maxlen=max_events)
        self._epoch = time.time() - time.monotonic()

    def instant(self, request_id: str, name: str) -> None:
        """See Trace.instant."""
        self._add(request_id, name, time.monotonic(), {"ph": "i", "s": "t"})

    def span(self, request_id: str, name: str, start: float, stop: float) -> None:
        """See Trace.span."""
        self._add(request_id, name, start, {"ph": "X", "dur": round((stop - start) * 1e6)})

    def step(self, plan: Plan, start: float, stop: float) -> None:
        """See Trace.step. Records a span for each request that took part, and each preemption."""
        for request in plan.preempted:
            self.instant(request.spec.request_id, "preempt")
        for entry in plan.entries:
            self.span(entry.request.spec.request_id, _name(entry), start, stop)

    def dump(self) -> list[TraceEvent]:
        """See Trace.dump. Chrome reads the events as a JSON array; `ts` and `dur` are in microseconds."""
        return list(self._events.copy())

    def _add(self, request_id: str, name: str, at: float, kind: TraceEvent) -> None:
        moment = {"ts": round((self._epoch + at) * 1e6), "pid": 1, "tid": request_id}
        self._events.append({"name": name, **kind, **moment})


class NullTrace:
    """Records nothing."""

    def instant(self, request_id: str, name: str) -> None:
        """See Trace.instant."""

    def span(self, request_id: str, name: str, start: float, stop: float) -> None:
        """See Trace.span."""

    def step(self, plan: Plan, start: float, stop: float) -> None:
        """See Trace.step."""

    def dump(self) -> list[TraceEvent] | None:
        """See Trace.dump. Returns None."""
        return None


def _name(entry: PlanEntry) -> str:
    return "decode" if entry.is_decode else f"prefill ({entry.num_tokens})"

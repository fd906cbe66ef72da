"""What each request went through and when, as events of Chrome's trace viewer.

Bounded: the oldest events go first. Events may come from any thread; `dump` too may be called from any.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any, Protocol

from mlc_serve.engine.plan import Plan, PlanEntry

TraceEvent = dict[str, Any]


class Trace(Protocol):
    """Takes note of what happens. Times are time.monotonic() seconds."""

    def instant(self, request_id: str, name: str) -> None:
        """Something happened to a request just now."""

    def span(self, request_id: str, name: str, start: float, stop: float) -> None:
        """Something was done for a request."""

    def step(self, plan: Plan, start: float, stop: float) -> None:
        """A forward pass was made."""

    def dump(self) -> list[TraceEvent] | None:
        """The events so far, oldest first; None if none are taken note of."""


class EventTrace:
    """Keeps the last `max_events` events."""

    def __init__(self, max_events: int = 100_000) -> None:
        self._events: deque[TraceEvent] = deque(maxlen=max_events)
        self._epoch = time.time() - time.monotonic()

    def instant(self, request_id: str, name: str) -> None:
        """As Trace.instant."""
        self._add(request_id, name, time.monotonic(), {"ph": "i", "s": "t"})

    def span(self, request_id: str, name: str, start: float, stop: float) -> None:
        """As Trace.span."""
        self._add(request_id, name, start, {"ph": "X", "dur": round((stop - start) * 1e6)})

    def step(self, plan: Plan, start: float, stop: float) -> None:
        """As Trace.step: a span for each request that took part."""
        for request in plan.preempted:
            self.instant(request.spec.request_id, "preempt")
        for entry in plan.entries:
            self.span(entry.request.spec.request_id, _name(entry), start, stop)

    def dump(self) -> list[TraceEvent]:
        """As Trace.dump, as the JSON array that Chrome reads: `ts` and `dur` in microseconds."""
        return list(self._events.copy())

    def _add(self, request_id: str, name: str, at: float, kind: TraceEvent) -> None:
        moment = {"ts": round((self._epoch + at) * 1e6), "pid": 1, "tid": request_id}
        self._events.append({"name": name, **kind, **moment})


class NullTrace:
    """Takes note of nothing."""

    def instant(self, request_id: str, name: str) -> None:
        """As Trace.instant."""

    def span(self, request_id: str, name: str, start: float, stop: float) -> None:
        """As Trace.span."""

    def step(self, plan: Plan, start: float, stop: float) -> None:
        """As Trace.step."""

    def dump(self) -> list[TraceEvent] | None:
        """As Trace.dump: None."""
        return None


def _name(entry: PlanEntry) -> str:
    return "decode" if entry.is_decode else f"prefill ({entry.num_tokens})"

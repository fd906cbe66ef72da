"""EventTrace: what happened to requests, as events for Chrome's trace viewer."""

from __future__ import annotations

import json

from mlc_serve.engine.trace import EventTrace, NullTrace
from tests.engine.bench import Bench


def test_a_request_leaves_its_events() -> None:
    """A request leaves these events under its id, in this order: added, a prefill per chunk, a decode per
    later token, finish.
    """
    trace = EventTrace()
    bench = Bench(prefill_chunk_size=4, trace=trace)
    bench.submit("a", b"0123456", max_tokens=3)
    bench.finish()
    events = trace.dump()
    names = ["request added to engine", "prefill (4)", "prefill (3)", "decode", "decode", "finish"]
    assert [event["name"] for event in events] == names
    assert {event["tid"] for event in events} == {"a"}
    assert json.loads(json.dumps(events)) == events


def test_spans_have_their_place_in_time() -> None:
    """A span is a complete event with a start and a duration in microseconds."""
    trace = EventTrace()
    trace.span("a", "prefill", 10.0, 10.5)
    trace.span("a", "decode", 11.0, 11.25)
    first, second = trace.dump()
    assert (first["ph"], first["dur"], second["dur"]) == ("X", 500_000, 250_000)
    assert second["ts"] - first["ts"] == 1_000_000


def test_a_preemption_is_an_event() -> None:
    """The trace shows which request was preempted."""
    trace = EventTrace()
    bench = Bench(num_pages=8, max_single_sequence_length=32, trace=trace)
    for request_id in "ab":
        bench.submit(request_id, request_id.encode() * 5, max_tokens=20)
    bench.finish()
    preempted = [event["tid"] for event in trace.dump() if event["name"] == "preempt"]
    assert set(preempted) == {"b"}


def test_the_number_of_events_is_bounded() -> None:
    """Beyond the limit the oldest events are dropped."""
    trace = EventTrace(max_events=3)
    for i in range(5):
        trace.instant("a", str(i))
    assert [event["name"] for event in trace.dump()] == ["2", "3", "4"]


def test_without_tracing_there_is_nothing() -> None:
    """The null trace accepts all events, and `dump` returns None rather than an empty list."""
    trace = NullTrace()
    trace.instant("a", "x")
    trace.span("a", "x", 0.0, 1.0)
    assert trace.dump() is None

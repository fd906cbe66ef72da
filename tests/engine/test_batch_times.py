"""BatchTimes: MLC-LLM's times by batch size."""

from __future__ import annotations

from mlc_serve.engine.batch_times import BatchTimes
from mlc_serve.engine.plan import Plan, PlanEntry
from mlc_serve.engine.request import Request
from tests.engine.bench import spec


def plan(*num_drafts: int) -> Plan:
    """A plan of decodes with so many drafts each."""
    request = Request(spec("a", b"x"), 100)
    return Plan([PlanEntry(request, 0, 1, True, True, [7] * count) for count in num_drafts])


def test_passes_with_and_without_drafts_have_times_of_their_own() -> None:
    """Each size is a mean without its first pass. With drafts it counts all tokens, and drafting one token is
    counted by the number of requests that had some.
    """
    times = BatchTimes()
    for seconds in (9.0, 1.0, 2.0):
        times.ran(plan(0, 0), seconds, 0.5)
        times.ran(plan(3, 0, 1), 10 * seconds, 3 * seconds)
    assert times.snapshot() == {
        "decode_time_by_batch_size": {"mean{batch_size=2}": 1.5, "count{batch_size=2}": 2},
        "verify_time_by_batch_size": {"mean{batch_size=7}": 15.0, "count{batch_size=7}": 2},
        "draft_time_by_batch_size": {"mean{batch_size=2}": 1.5, "count{batch_size=2}": 2},
    }


def test_prompts_and_large_batches_are_left_out() -> None:
    """A pass with a prompt takes longer, and there are no series for more than 64 tokens."""
    times = BatchTimes()
    mixed = plan(0)
    mixed.entries.append(PlanEntry(mixed.entries[0].request, 1, 5, False, False))
    for _ in range(2):
        times.ran(mixed, 1.0, 0.0)
        times.ran(plan(*[0] * 65), 1.0, 0.0)
    assert times.snapshot() == {}

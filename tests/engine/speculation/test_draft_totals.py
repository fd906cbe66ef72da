"""DraftTotals: the drafts of a request, which its deltas carry."""

from __future__ import annotations

from mlc_serve.engine.speculation.draft_totals import DraftTotals
from tests.engine.bench import Bench
from tests.engine.speculation.scripted import partly_right


def test_the_last_delta_tells_all_drafts_of_its_request() -> None:
    """Two of three drafts are right, so three passes give nine tokens; the last one has room for two drafts.

    A request that runs beside it has its own totals.
    """
    bench = Bench(speculation=partly_right(3, 2))
    bench.submit("a", b"0123456789", max_tokens=10)
    bench.finish()
    assert bench.deltas["a"][-1].drafts == DraftTotals(num_passes=3, num_drafts=8, num_kept=6)
    bench.submit("b", b"xyz", max_tokens=7)
    bench.submit("c", b"zyx", max_tokens=4)
    bench.finish()
    assert bench.deltas["b"][-1].drafts == DraftTotals(2, 5, 4)
    assert bench.deltas["c"][-1].drafts == DraftTotals(1, 2, 2)


def test_a_request_that_is_ended_early_keeps_its_totals() -> None:
    """The delta of an abort has the drafts so far; without drafts it has none."""
    for speculation, drafts in ((partly_right(3, 1), DraftTotals(2, 6, 2)), (None, None)):
        bench = Bench(speculation=speculation)
        bench.submit("a", b"0123456789", max_tokens=30)
        bench.step(3)
        bench.core.abort("a")
        bench.finish()
        assert bench.deltas["a"][-1].drafts == drafts


def test_totals_of_several_requests_are_added() -> None:
    """Each pass of each request counts; without requests, nothing was drafted and there is no average."""
    totals = DraftTotals.of_all([DraftTotals(2, 6, 3), DraftTotals(1, 4, 1)])
    assert totals == DraftTotals(3, 10, 4)
    assert (totals.tokens_per_pass, totals.share_kept) == (1 + 4 / 3, 0.4)
    nothing = DraftTotals.of_all([])
    assert (nothing.tokens_per_pass, nothing.share_kept) == (None, None)

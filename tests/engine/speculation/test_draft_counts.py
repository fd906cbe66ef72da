"""DraftCounts: MLC-LLM's figures of drafts."""

from __future__ import annotations

import pytest

from mlc_serve.engine.speculation.draft_counts import DraftCounts


def counted(*passes: tuple[int, int]) -> DraftCounts:
    """Counts of passes, each with its numbers of drafts and of those that were kept."""
    counts = DraftCounts()
    for num_drafts, num_kept in passes:
        counts.add(num_drafts, num_kept)
    return counts


def test_a_place_counts_once_for_each_pass_that_reaches_it() -> None:
    """Place 0, of the token that was drawn before, is always kept; drafts of all lengths are put together."""
    snapshot = counted((3, 1), (1, 1), (3, 3)).snapshot()
    assert snapshot["draft_count"] == [3, 3, 2, 2]
    assert snapshot["accept_count"] == [3, 3, 1, 1]


def test_shares_are_named_by_step_as_in_mlc_llm() -> None:
    """A share is of all checked at its place, a rate of those whose predecessor was kept, and a length adds
    up the shares.
    """
    snapshot = counted((3, 1), (1, 1), (3, 3)).snapshot()
    assert snapshot["accept_prob"] == {
        "accept_prob{step=0}": 1.0,
        "accept_prob{step=1}": 1.0,
        "accept_prob{step=2}": 0.5,
        "accept_prob{step=3}": 0.5,
    }
    assert snapshot["accept_rate"] == {
        "accept_rate{step=1}": 1.0,
        "accept_rate{step=2}": pytest.approx(1 / 3),
        "accept_rate{step=3}": 1.0,
    }
    assert list(snapshot["accept_len"].values()) == [1.0, 2.0, 2.5, 3.0]


def test_drafts_of_which_none_is_kept_have_rates_of_zero() -> None:
    """A place that is never reached divides nothing by zero."""
    snapshot = counted((2, 0), (2, 0)).snapshot()
    assert snapshot["accept_count"] == [2, 0, 0]
    assert snapshot["accept_rate"] == {"accept_rate{step=1}": 0.0, "accept_rate{step=2}": 0.0}


def test_without_drafts_there_is_nothing_to_report() -> None:
    """An engine that drafts nothing has an empty snapshot."""
    assert DraftCounts().snapshot() == {}

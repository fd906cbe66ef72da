"""What is learned from the drafts that were kept."""

from __future__ import annotations

import pytest

from mlc_serve.engine.speculation.acceptance import Acceptance, RequestDrafts


def learned(*passes: tuple[int, int]) -> Acceptance:
    """What is known after these passes: numbers of drafts and how many were kept."""
    acceptance = Acceptance()
    for num_drafts, num_kept in passes:
        acceptance.learn(num_drafts, num_kept)
    return acceptance


@pytest.mark.parametrize(("kept", "rate"), [([4] * 50, 1.0), ([0] * 50, 0.0), ([1] * 50, 0.5)])
def test_the_rate_becomes_that_of_the_drafts_that_were_checked(kept: list[int], rate: float) -> None:
    """With one of four kept in each pass two are checked, the one that was kept and the wrong one."""
    assert learned(*((4, num_kept) for num_kept in kept)).rate() == pytest.approx(rate, abs=0.11)


def test_the_latest_drafts_count_most() -> None:
    """After ten passes of bad drafts, good ones before are nearly forgotten."""
    assert learned(*[(4, 4)] * 50, *[(4, 0)] * 20).rate() < 0.2
    assert learned(*[(4, 0)] * 50, *[(4, 4)] * 10).rate() > 0.8


def test_before_drafts_were_checked_the_rate_is_that_expected() -> None:
    """And one draft changes it a little."""
    assert learned().rate(0.3) == pytest.approx(0.3)
    assert 0.15 < learned((1, 0)).rate(0.3) < 0.3 < learned((1, 1)).rate(0.3) < 0.7


def num_idle_before_trials(drafts: RequestDrafts, num_trials: int) -> list[int]:
    """How many passes without drafts are before each of the trials, which fail."""
    found: list[int] = []
    for _ in range(num_trials):
        found.append(1)
        while not drafts.idle():
            found[-1] += 1
        drafts.learn(1, 0)
    return found


def test_trials_become_rarer_but_never_end() -> None:
    """Each comes after twice as many passes as the one before, but after at most 128; once drafts have paid,
    the next one comes soon again.
    """
    drafts = RequestDrafts(Acceptance())
    assert num_idle_before_trials(drafts, 7) == [8, 16, 32, 64, 128, 128, 128]
    drafts.chosen()
    assert num_idle_before_trials(drafts, 1) == [8]


def test_a_trial_without_a_draft_is_made_up_for() -> None:
    """If nothing was drafted when it was time, the next pass is as good."""
    drafts = RequestDrafts(Acceptance())
    assert [drafts.idle() for _ in range(10)] == [False] * 7 + [True] * 3

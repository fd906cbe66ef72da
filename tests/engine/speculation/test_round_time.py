"""What a round of drafting takes, apart from what a draft model has to catch up with."""

from __future__ import annotations

import pytest

from mlc_serve.engine.request import Request
from mlc_serve.engine.speculation.round_time import RoundTime
from tests.engine.bench import spec

OLD, NEW = (Request(spec(name, b"hello"), max_length=64) for name in ("old", "new"))


def make_pass(rounds: RoundTime, seconds: float, *requests: Request) -> None:
    """Draft for these requests, of which each round takes so long."""
    if requests:
        rounds.measured(seconds)
    for request in requests:
        rounds.drafted(request)
    rounds.end_pass()


def test_the_first_drafts_of_a_request_do_not_count() -> None:
    """Its prompt may have been computed for them; those of the next pass count."""
    rounds = RoundTime()
    make_pass(rounds, 100.0, OLD)
    assert rounds.seconds == 0.0
    make_pass(rounds, 1.0, OLD)
    assert rounds.seconds == 1.0
    make_pass(rounds, 100.0, OLD, NEW)
    assert rounds.seconds == 1.0
    make_pass(rounds, 1.5, OLD, NEW)
    assert 1.0 < rounds.seconds < 1.5


def test_drafts_after_a_pause_count_if_they_were_quick() -> None:
    """What was not drafted for meanwhile can only have made them slower."""
    rounds = RoundTime()
    for _ in range(2):
        make_pass(rounds, 1.0, OLD)
    make_pass(rounds, 0.0)
    make_pass(rounds, 9.0, OLD)
    assert rounds.seconds == 1.0
    make_pass(rounds, 0.0)
    make_pass(rounds, 0.5, OLD)
    assert rounds.seconds == pytest.approx(0.9)


def test_a_disturbance_counts_for_little() -> None:
    """A round that takes a hundred times as long adds a fifth."""
    rounds = RoundTime()
    for seconds in (1.0, 1.0, 100.0):
        make_pass(rounds, seconds, OLD)
    assert rounds.seconds == pytest.approx(1.2)

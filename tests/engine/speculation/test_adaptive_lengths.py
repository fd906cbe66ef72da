"""Draft lengths that follow what passes take and what is kept, on machines that are simulated."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from statistics import mean

import pytest

from mlc_serve.engine.request import Request
from mlc_serve.engine.speculation.adaptive_lengths import LONGEST, AdaptiveLengths
from tests.engine.bench import spec

PassSeconds = Callable[[int], float]
PLENTY = 1000


def free(_num_rows: int) -> float:
    """A pass takes as long with any number of rows."""
    return 0.01


def proportional(num_rows: int) -> float:
    """Each row takes as long as the one before."""
    return 0.01 * num_rows


def roof(num_rows: int) -> float:
    """Eight rows are nearly free; from there on, each costs its share."""
    return 0.01 * max(1 + 0.02 * num_rows, num_rows / 8)


class Machine:
    """Serves requests whose drafts are kept with these probabilities, with passes that take `seconds`."""

    def __init__(self, rates: Sequence[float], seconds: PassSeconds, round_seconds: float = 0.0) -> None:
        self.lengths = AdaptiveLengths()
        self.rates = list(rates)
        self.seconds = seconds
        self.round_seconds = round_seconds
        self.num_tokens, self.time = 0, 0.0
        self.requests = [Request(spec(str(i), b"hello"), max_length=10**9) for i in range(len(rates))]
        self._rng = random.Random(1)

    def run(self, num_passes: int, num_spare: int = PLENTY) -> list[list[int]]:
        """Make passes, and return the lengths that were chosen for each."""
        return [self._pass(num_spare) for _ in range(num_passes)]

    def _pass(self, num_spare: int) -> list[int]:
        chosen = self.lengths.choose(self.requests, num_spare)
        assert sum(chosen) <= num_spare
        num_rows, draft_seconds = len(chosen) + sum(chosen), max(chosen) * self.round_seconds
        self.lengths.measured(num_rows, max(chosen), draft_seconds, self.seconds(num_rows))
        self.time += self.seconds(num_rows) + draft_seconds
        for request, rate, length in zip(self.requests, self.rates, chosen, strict=True):
            num_kept = next((i for i in range(length) if self._rng.random() >= rate), length)
            self.num_tokens += 1 + num_kept
            if length:
                self.lengths.committed(request, length, num_kept)
        return chosen

    def gain(self, num_passes: int) -> float:
        """How many times as fast as without drafts the next passes are."""
        self.num_tokens, self.time = 0, 0.0
        self.run(num_passes)
        return self.num_tokens / self.time * self.seconds(len(self.rates)) / len(self.rates)


def usual(chosen: Sequence[Sequence[int]]) -> float:
    """The mean length, for all requests."""
    return mean(length for lengths in chosen for length in lengths)


@pytest.mark.parametrize("num_requests", [1, 4, 32])
def test_drafts_are_long_where_rows_are_free(num_requests: int) -> None:
    """If drafts are kept, nearly all passes have the longest ones."""
    machine = Machine([0.98] * num_requests, free)
    machine.run(30)
    assert usual(machine.run(100)) > 0.9 * LONGEST
    assert machine.gain(200) > 8


@pytest.mark.parametrize("rate", [0.9, 0.3])
@pytest.mark.parametrize("num_requests", [1, 8, 32])
def test_there_are_next_to_none_where_each_row_has_its_price(num_requests: int, rate: float) -> None:
    """Where passes cost in proportion to their rows, no drafts are the fastest, and trials cost little."""
    machine = Machine([rate] * num_requests, proportional)
    machine.run(100)
    assert usual(machine.run(400)) < 0.2
    assert machine.gain(400) > 0.97


def test_there_are_none_if_drafting_takes_too_long() -> None:
    """Also if rows are free, a round of drafting that takes as long as a pass does not pay."""
    machine = Machine([0.8], free, round_seconds=0.01)
    machine.run(100)
    assert usual(machine.run(400)) < 0.1
    quick = Machine([0.8], free, round_seconds=0.001)
    quick.run(100)
    assert usual(quick.run(200)) > 3


def test_bad_drafts_take_no_rows_from_good_ones() -> None:
    """Below the roof of a machine, the rows go to the request whose drafts are kept."""
    machine = Machine([0.95, 0.02, 0.02, 0.02], roof)
    machine.run(150)
    good, *bad = (mean(lengths) for lengths in zip(*machine.run(200), strict=True))
    assert good > 3
    assert max(bad) < 0.2


@pytest.mark.parametrize("num_spare", [1, 3, 7])
def test_there_are_no_more_drafts_than_spare_rows(num_spare: int) -> None:
    """Whatever would pay; the rows that there are get used, and trials count as well."""
    machine = Machine([0.9] * 5, free)
    machine.run(20, num_spare)
    assert mean(map(sum, machine.run(100, num_spare))) > 0.9 * num_spare
    idle = Machine([0.0] * 5, proportional)
    idle.run(300, num_spare)


def test_no_length_is_for_ever() -> None:
    """When a text becomes easy, or passes become cheap, drafts come back; when it becomes hard, they go."""
    machine = Machine([0.0], free)
    machine.run(400)
    assert usual(machine.run(100)) < 0.2
    machine.rates = [0.95]
    machine.run(300)
    assert usual(machine.run(100)) > 4
    machine.rates = [0.0]
    machine.run(300)
    assert usual(machine.run(100)) < 0.3

    machine = Machine([0.9], proportional)
    machine.run(300)
    machine.seconds = free
    machine.run(600)
    assert usual(machine.run(100)) > 4


def test_one_slow_pass_does_not_end_drafts() -> None:
    """After a disturbance during the first passes with drafts, they are as long as without it."""
    slow = iter([0.01, *[1.0] * 3])
    machine = Machine([0.9], lambda _num_rows: next(slow, 0.01))
    machine.run(1500)
    assert usual(machine.run(100)) > 5


def test_a_slow_first_round_does_not_end_drafts() -> None:
    """A draft model that first has to compute a long prompt is not taken for a slow one."""
    machine = Machine([0.9], free, round_seconds=1.0)
    machine.run(2)
    machine.round_seconds = 0.0005
    machine.run(200)
    assert usual(machine.run(100)) > 3


def test_a_new_request_is_expected_to_be_like_the_others() -> None:
    """Where drafts were bad, a new request gets one at most; where they were good, it gets some."""
    for rate, least, most in ((0.0, 0, 1), (0.95, 3, LONGEST)):
        machine = Machine([rate], roof)
        machine.run(200)
        newcomer = Request(spec("new", b"hello"), max_length=100)
        (length,) = machine.lengths.choose([newcomer], PLENTY)
        assert least <= length <= most


def test_a_request_that_ended_is_forgotten() -> None:
    """What was learned from a request is gone, but for its part in the average."""
    machine = Machine([0.0, 0.9], roof)
    machine.run(100)
    (bad, good) = machine.run(1)[0]
    assert good > bad
    for request in machine.requests:
        machine.lengths.forget(request)
        machine.lengths.forget(request)
    lengths = machine.run(1)[0]
    assert abs(lengths[0] - lengths[1]) <= 1

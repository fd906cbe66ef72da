"""What passes are expected to take, after what they took."""

from __future__ import annotations

import pytest

from mlc_serve.engine.speculation.pass_times import PassTimes


def measured(*passes: tuple[int, float]) -> PassTimes:
    """Times after these passes: numbers of tokens and seconds."""
    times = PassTimes()
    for num_rows, seconds in passes:
        times.measured(num_rows, seconds)
    return times


def test_numbers_between_those_measured_are_interpolated() -> None:
    """Smaller ones take as long as the smallest, and larger ones a little longer than the largest."""
    times = measured((2, 1.0), (6, 2.0))
    assert [times.of(num_rows) for num_rows in (1, 2, 3, 6)] == pytest.approx([1.0, 1.0, 1.25, 2.0])
    assert 2.0 < times.of(7) < times.of(20) < 4.0


def test_times_follow_the_machine() -> None:
    """After some passes that take longer or shorter, others are expected to take as long."""
    times = measured((1, 1.0), *[(1, 1.9)] * 30)
    assert times.of(1) == pytest.approx(1.9, rel=0.01)
    for _ in range(30):
        times.measured(1, 0.5)
    assert times.of(1) == pytest.approx(0.5, rel=0.05)


def test_a_disturbance_counts_for_little() -> None:
    """A pass that takes a hundred times as long adds at most a fifth, or doubles what was only a guess."""
    assert measured((1, 1.0), (1, 100.0)).of(1) == pytest.approx(1.2)
    times = measured((1, 1.0), (2, 100.0))
    assert times.of(2) <= 2 * measured((1, 1.0)).of(2)


def test_what_was_not_measured_for_long_is_forgotten() -> None:
    """So that a slow time does not keep passes of one size from being tried for ever."""
    times = measured((1, 1.0), (9, 1.8), *[(1, 1.0)] * 2100)
    assert times.of(9) == measured((1, 1.0)).of(9)


def test_a_pass_is_known_while_it_is_recent() -> None:
    """A size is known once it was measured, and unknown again after 64 passes of other sizes."""
    times = measured((3, 1.0))
    assert times.is_known(3)
    assert not times.is_known(2)
    for _ in range(63):
        times.measured(5, 1.0)
    assert times.is_known(3)
    times.measured(5, 1.0)
    assert not times.is_known(3)


def test_larger_passes_are_tried_step_by_step() -> None:
    """At most a few tokens more than twice as many as were measured, so that no trial takes long."""
    assert [measured(*((n, 1.0) for n in sizes)).reach for sizes in ((), (1,), (1, 4), (32,))] == [
        0,
        4,
        10,
        66,
    ]

"""Back-off and its limit, with a clock that the test sets."""

from __future__ import annotations

from mlc_serve.config import SupervisionConfig
from mlc_serve.supervisor.restarts import Restarts


def restarts(**settings: float) -> Restarts:
    """At most five restarts within 100 s, with a first delay of 1 s and later ones of up to 10 s."""
    values = {"restart_delay": 1.0, "restart_max_delay": 10.0, "restart_limit": 5, "restart_window": 100.0}
    return Restarts(SupervisionConfig(**{**values, **settings}))  # type: ignore[arg-type]


def test_delays_double_up_to_a_limit_and_then_it_is_enough() -> None:
    """Delays double up to the longest one, and a sixth restart within the window is refused."""
    tried = restarts()
    assert [tried.next_delay(0.0) for _ in range(6)] == [1, 2, 4, 8, 10, None]


def test_what_is_long_ago_does_not_count() -> None:
    """A server that ran for a while starts with a short delay again, and is never given up."""
    tried = restarts()
    assert [tried.next_delay(now) for now in (0, 60, 120, 180, 240, 300, 360, 420)] == [1] + [2] * 7


def test_no_restarts_at_all() -> None:
    """A limit of 0 gives up at once."""
    assert restarts(restart_limit=0).next_delay(0.0) is None


def test_a_high_limit_is_no_overflow() -> None:
    """The delay does not exceed the longest one, even after thousands of restarts."""
    tried = restarts(restart_limit=5000)
    assert [tried.next_delay(0.0) for _ in range(5000)][-1] == 10

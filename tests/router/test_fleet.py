"""The servers behind a router: which are up, which rest, and which are given up."""

from __future__ import annotations

from mlc_serve.router.address import Address
from mlc_serve.router.backend import Backend
from mlc_serve.router.fleet import ABANDON_SECONDS, Fleet
from mlc_serve.router.upstream import Upstream


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Closing(Upstream):
    """Notes how often it was closed."""

    def __init__(self) -> None:
        super().__init__(Address("http", "a", 1, ""))
        self.num_closed = 0

    def close(self) -> None:
        self.num_closed += 1


def fleet_of(
    *names: str, clock: Clock | None = None, max_running: int | None = None
) -> tuple[Fleet, list[str]]:
    """A fleet whose servers are up, and the names of those that have come back."""
    returned: list[str] = []
    backends = [Backend(name, Closing()) for name in names]
    fleet = Fleet(backends, returned.append, max_running, clock or Clock())
    for backend in backends:
        fleet.saw_success(backend, None)
    returned.clear()
    return fleet, returned


def able(fleet: Fleet, model: str | None = None) -> list[str]:
    """The names of the servers that can take a request."""
    return [backend.name for backend in fleet.able(model)]


def test_two_failures_in_a_row_take_a_server_out() -> None:
    """One success between them starts the count anew, and one success brings it back."""
    fleet, returned = fleet_of("a", "b")
    for is_success in (False, True, False):
        fleet.saw_success(fleet["a"], None) if is_success else fleet.saw_failure(fleet["a"], "x")
        assert able(fleet) == ["a", "b"]
    fleet.saw_failure(fleet["a"], "x")
    assert (able(fleet), returned) == (["b"], [])
    fleet.saw_success(fleet["a"], None)
    assert (able(fleet), returned) == (["a", "b"], ["a"])


def test_a_server_that_has_long_failed_is_given_up() -> None:
    """Its requests are ended then, and not before: it may have been slow for a moment."""
    clock = Clock()
    fleet, _ = fleet_of("a", clock=clock)
    upstream = fleet["a"].upstream
    assert isinstance(upstream, Closing)
    for _ in range(3):
        fleet.saw_failure(fleet["a"], "x")
    assert upstream.num_closed == 0
    clock.now += ABANDON_SECONDS + 1
    fleet.saw_failure(fleet["a"], "x")
    assert upstream.num_closed == 1


def test_a_server_without_room_rests() -> None:
    """It rests for as long as it says, within bounds, unless all of them do."""
    clock = Clock()
    fleet, _ = fleet_of("a", "b", clock=clock)
    fleet.rest(fleet["a"], 5)
    assert able(fleet) == ["b"]
    clock.now += 5
    assert able(fleet) == ["a", "b"]
    fleet.rest(fleet["a"], 1e9)
    clock.now += 60
    assert able(fleet) == ["a", "b"]
    fleet.rest(fleet["a"], 5)
    fleet.rest(fleet["b"], 5)
    assert able(fleet) == ["a", "b"]


def test_a_full_server_gets_nothing() -> None:
    """A limit of running requests holds for each server, and ends with the request."""
    fleet, _ = fleet_of("a", "b", max_running=1)
    with fleet.running(fleet["a"]):
        assert able(fleet) == ["b"]
        with fleet.running(fleet["b"]):
            assert able(fleet) == []
    assert able(fleet) == ["a", "b"]


def test_a_model_is_asked_for_where_it_is() -> None:
    """A server that has not listed its models may have it; if nobody has, any server may say so."""
    fleet, _ = fleet_of("a", "b", "c")
    fleet.saw_success(fleet["a"], {"m": {}})
    fleet.saw_success(fleet["b"], {"n": {}})
    assert able(fleet, "m") == ["a", "c"]
    fleet.saw_success(fleet["c"], {"m": {}})
    assert able(fleet, "unknown") == ["a", "b", "c"]


def test_a_server_that_starts_elsewhere_is_out_until_it_answers() -> None:
    """Its connections are closed, and its next success counts as a return."""
    fleet, returned = fleet_of("a")
    old = fleet["a"].upstream
    new = Closing()
    fleet.move("a", new)
    assert isinstance(old, Closing)
    assert (old.num_closed, fleet["a"].upstream, able(fleet)) == (1, new, [])
    fleet.saw_success(fleet["a"], None)
    assert (able(fleet), returned) == (["a"], ["a"])


def test_the_load_of_a_server_that_is_out_is_forgotten() -> None:
    """It may have lost all requests when it comes back. Before, its load is no less than what it was sent."""
    fleet, _ = fleet_of("a")
    with fleet.running(fleet["a"]):
        for reported, load in ((0, 1), (1, 1), (4, 4)):
            fleet.saw_requests(fleet["a"], reported, own=1)
            assert fleet["a"].load == load
    fleet.move("a", Closing())
    assert fleet["a"].load == 0


async def test_waiting_for_the_last_request_has_a_limit() -> None:
    """The end of the last request ends the wait, and so does the time."""
    fleet, _ = fleet_of("a")
    await fleet.until_idle(0)
    with fleet.running(fleet["a"]):
        await fleet.until_idle(0.01)
        assert fleet.num_running == 1

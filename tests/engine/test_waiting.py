"""WaitingLine: two orders of the same requests."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from mlc_serve.engine.request import Request
from mlc_serve.engine.waiting import WaitingLine
from tests.engine.bench import spec


def names(requests: Iterable[Request]) -> list[str]:
    """Return the ids in the order of iteration."""
    return [request.spec.request_id for request in requests]


def line_of(*requests: tuple[str, int, float]) -> tuple[WaitingLine, dict[str, Request]]:
    """Return a line of requests, given by id, prompt length and arrival, and the requests."""
    line = WaitingLine()
    made = {name: Request(spec(name, bytes(length), arrival=at), 64) for name, length, at in requests}
    for request in made.values():
        line.add(request)
    return line, made


def test_the_line_is_in_order_of_arrival() -> None:
    """Earlier arrivals come first; of equal arrivals the one added first."""
    line, _ = line_of(("c", 1, 3.0), ("a", 1, 1.0), ("b", 1, 2.0), ("b2", 1, 2.0))
    assert names(line) == ["a", "b", "b2", "c"]
    assert line.first.spec.request_id == "a"


def test_the_shortest_come_first_and_equal_ones_by_arrival() -> None:
    """The order is by tokens to compute, then by arrival."""
    line, _ = line_of(("long", 9, 1.0), ("late", 2, 3.0), ("early", 2, 2.0))
    assert names(line.shortest_first()) == ["early", "late", "long"]


def test_what_has_left_is_in_neither_order() -> None:
    """A removed request is gone although others equal it; removing it again is a ValueError."""
    line, made = line_of(("a", 2, 1.0), ("b", 2, 1.0))
    line.remove(made["a"])
    assert (names(line), names(line.shortest_first()), len(line)) == (["b"], ["b"], 1)
    with pytest.raises(ValueError, match="not in list"):
        line.remove(made["a"])

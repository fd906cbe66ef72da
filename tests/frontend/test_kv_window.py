"""The windows of microserving calls."""

from __future__ import annotations

import pytest

from mlc_serve.errors import InvalidRequestError
from mlc_serve.frontend.kv_window import Window, received_end, sent_window, started_begin

N = 40  # tokens of the prompt


@pytest.mark.parametrize(("end", "position"), [(-1, 39), (-N, 0), (0, 0), (17, 17), (N - 1, 39)])
def test_the_end_of_what_is_received(end: int, position: int) -> None:
    """A negative end counts from the prompt's end; at least one token is left to the receiver."""
    assert received_end(end, N) == position


@pytest.mark.parametrize("end", [-N - 1, N, N + 1])
def test_an_end_that_is_refused(end: int) -> None:
    """The refusal says the rule in the prompt's own numbers."""
    with pytest.raises(InvalidRequestError, match=f"end: {end} .*less than 40.*at least -40") as refusal:
        received_end(end, N)
    assert refusal.value.param == "end"


@pytest.mark.parametrize(
    ("begin", "end", "window"),
    [(0, -1, (0, 39)), (38, -1, (38, 39)), (0, 1, (0, 1)), (16, 17, (16, 17)), (0, N, (0, N))],
)
def test_what_is_sent(begin: int, end: int, window: tuple[int, int]) -> None:
    """A window has at least one token and may reach to the prompt's end."""
    assert sent_window(begin, end, N) == window


@pytest.mark.parametrize(
    ("begin", "end", "param"),
    [
        (0, 0, "begin"),
        (16, 16, "begin"),
        (39, -1, "begin"),
        (17, 16, "begin"),
        (-1, 16, "begin"),
        (0, -N, "begin"),
        (0, N + 1, "end"),
        (0, -N - 1, "end"),
    ],
)
def test_a_window_that_is_refused(begin: int, end: int, param: str) -> None:
    """An empty window, a negative begin, and an end outside of the prompt are refused by name."""
    with pytest.raises(InvalidRequestError) as refusal:
        sent_window(begin, end, N)
    assert refusal.value.param == param


@pytest.mark.parametrize(("begin", "position"), [(0, 0), (-1, 39), (-N, 0), (N - 1, 39)])
def test_where_a_generation_begins(begin: int, position: int) -> None:
    """A negative begin counts from the prompt's end."""
    assert started_begin(begin, N) == position


@pytest.mark.parametrize("begin", [N, -N - 1])
def test_a_beginning_that_is_refused(begin: int) -> None:
    """At least one token is left."""
    with pytest.raises(InvalidRequestError, match="from -40 to 39"):
        started_begin(begin, N)


@pytest.mark.parametrize(
    ("window", "pages"),
    [
        ((0, 15), (0, 0)),
        ((0, 16), (0, 16)),
        ((0, 17), (0, 16)),
        ((16, 39), (16, 32)),
        ((32, 39), (32, 32)),
        ((32, 32), (32, 32)),
    ],
)
def test_whole_pages(window: tuple[int, int], pages: tuple[int, int]) -> None:
    """Of a window, what fills pages of 16 tokens is moved."""
    assert Window(*window).whole_pages(16) == pages

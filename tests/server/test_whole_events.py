"""A stream is cut between events only."""

from __future__ import annotations

import pytest

from mlc_serve.server.whole_events import WholeEvents

STREAM = b"data: 1\n\n: ping\r\n\r\nevent: a\ndata: 2\r\rdata: 3\n\ndata"


@pytest.mark.parametrize("size", [1, 2, 3, 5, len(STREAM)])
def test_portions_are_whole_events(size: int) -> None:
    """Whatever the portions are, all bytes come in their order, each portion up to the end of an event."""
    whole = WholeEvents()
    cut = [whole.cut(STREAM[start : start + size]) for start in range(0, len(STREAM), size)]
    portions = [portion for portion in cut if portion]
    assert b"".join(portions) + whole.rest() == STREAM
    assert all(portion.endswith((b"\n\n", b"\r\n\r\n", b"\r\r")) for portion in portions)
    assert whole.rest() == b"data"


def test_what_is_no_event_is_not_kept_back_for_ever() -> None:
    """A line of megabytes is passed on, so that the memory for it is bounded."""
    whole = WholeEvents()
    portions = [whole.cut(b"x" * 400_000) for _ in range(6)]
    assert sum(map(len, portions)) >= 1_200_000

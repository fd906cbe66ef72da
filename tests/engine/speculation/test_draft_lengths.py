"""A fixed number of drafts for each request."""

from __future__ import annotations

import pytest

from mlc_serve.engine.request import Request
from mlc_serve.engine.speculation.draft_lengths import FixedLengths
from tests.engine.bench import spec


@pytest.mark.parametrize(
    ("num_spare", "expected"),
    [(100, [4, 4, 4]), (12, [4, 4, 4]), (11, [4, 4, 3]), (5, [4, 1, 0]), (1, [1, 0, 0])],
)
def test_spare_rows_go_to_those_at_the_front(num_spare: int, expected: list[int]) -> None:
    """Each gets the number, as long as there are rows; there are never more drafts than rows."""
    requests = [Request(spec(str(i), b"hello"), max_length=64) for i in range(3)]
    assert FixedLengths(4).choose(requests, num_spare) == expected
    assert FixedLengths(0).choose(requests, num_spare) == [0, 0, 0]

"""The benchmark of moving keys and values: its figures. The servers are not started."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.kv_move import Gaps, Move
from mlc_serve.bench.closed_loop import NoMeasureError, Record


def test_gaps_are_told_apart_by_whether_a_prefix_moved() -> None:
    """A gap that a move has touched at either end belongs to it; gaps of several streams come together."""
    gaps = Gaps()
    move = Move(began=2.5, sent=2.6, arrived=3.5, num_tokens=16, num_bytes=1)
    gaps.add(Record(0.0, [(float(at), 1) for at in range(6)]), [move])
    gaps.add(Record(0.0, [(0.0, 1), (3.0, 1)]), [replace(move, arrived=2.9)])
    assert gaps == Gaps(during=[1.0, 1.0, 3.0], alone=[1.0, 1.0, 1.0])
    figures = gaps.figures()
    assert (figures["gaps"], figures["itl_p50_ms"], figures["itl_p99_ms"]) == (3, 1000, 3000)
    assert figures["alone_itl_p99_ms"] == 1000


@pytest.mark.parametrize("gaps", [Gaps(during=[1.0]), Gaps(alone=[1.0])], ids=["moves only", "no moves"])
def test_a_stream_without_moves_is_not_measured(gaps: Gaps) -> None:
    """The error says how to get both sides."""
    with pytest.raises(NoMeasureError, match="--max-tokens must be higher"):
        gaps.figures()

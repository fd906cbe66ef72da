"""Logprobs kept small."""

from __future__ import annotations

from mlc_serve.engine.backend import TokenLogprobs
from mlc_serve.frontend.logprob_table import LogprobTable, listed


def test_everything_comes_back_in_order() -> None:
    """This holds for any number of alternatives per token; a run is never empty and never long."""
    entries = [TokenLogprobs(i, -i / 3, tuple((j, -j / 7) for j in range(i % 30))) for i in range(500)]
    table = LogprobTable()
    table.add(entries[:123])
    table.add(entries[123:])
    runs = list(table.runs())
    assert [entry for run in runs for entry in run] == entries
    assert all(0 < sum(1 + len(entry.top) for entry in run) < 1100 for run in runs)
    assert list(LogprobTable().runs()) == []


def test_a_list_in_pieces_has_its_brackets_and_commas() -> None:
    """This holds even if the list or some of its runs are empty."""
    assert "".join(listed(["1,2", "", "3"])) == "[1,2,3]"
    assert "".join(listed([])) == "[]"
    assert "".join(listed([""])) == "[]"

"""The cost of a token beside the model."""

from __future__ import annotations

import asyncio
import sys

import psutil
import pytest

from benchmarks import http_path
from benchmarks.http_path import CpuTime, Load


def test_a_row_for_each_api_and_load() -> None:
    """Two servers are measured in turn, and ended afterwards; the second one's figures have a prefix."""
    with http_path.paced_server(step_ms=0) as own, http_path.paced_server(0, prefix="against_") as other:
        rows = asyncio.run(http_path.measure([own, other], [Load(2, waves=2, runs=1)], max_tokens=4))
    assert [(row["api"], row["concurrency"]) for row in rows] == [("completions", 2), ("chat", 2)]
    for row in rows:
        assert float(str(row["tokens_per_s"])) > 0
        assert float(str(row["against_tokens_per_s"])) > 0
    assert not own.process.is_running()


def test_clocks_only_go_forward() -> None:
    """The event loop's thread is a part of the process."""
    own = psutil.Process()
    before, after = CpuTime.now(own), CpuTime.now(own)
    assert after.server >= before.server
    assert after.load >= before.load


def test_it_explains_itself(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """--help prints what is measured."""
    monkeypatch.setattr(sys, "argv", ["http_path", "--help"])
    with pytest.raises(SystemExit):
        http_path.main()
    assert "--step-ms" in capsys.readouterr().out

"""Figures come as a table and as JSON on the last line."""

from __future__ import annotations

import json

import pytest

from benchmarks.report import print_report


def test_the_last_line_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    """People read the table, programs the last line."""
    print_report(
        "offline", {"model": "m"}, [{"measured": "decode", "tokens_per_s": 123.456, "spread": 0.01234}]
    )
    lines = capsys.readouterr().out.splitlines()
    assert "| measured | tokens_per_s | spread |" in lines
    assert "| decode | 123 | 0.0123 |" in lines
    assert json.loads(lines[-1])["rows"] == [
        {"measured": "decode", "tokens_per_s": 123.456, "spread": 0.01234}
    ]

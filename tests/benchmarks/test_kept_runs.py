"""Kept runs are well-formed, and a malformed one is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.kept_runs import RESULTS, read_machines, read_runs

MACHINES = {"m": {"title": "M", "cpu": "C", "cores": 2, "instruction_sets": ["AVX2"], "notes": ""}}
RUN: dict[str, Any] = {
    "machine": "m",
    "date": "2026-11-30",
    "reports": [{"title": "offline", "rows": [{"measured": "decode", "tokens_per_s": 1.5}]}],
}


def directory(path: Path, name: str, run: object) -> Path:
    """A directory with one machine and one run."""
    (path / "machines.json").write_text(json.dumps(MACHINES), encoding="utf-8")
    (path / name).write_text(json.dumps(run), encoding="utf-8")
    return path


def test_every_file_beside_the_list_is_a_run_or_the_machines() -> None:
    """No file is kept that nobody reads, and no machine without a run."""
    runs = read_runs()
    assert {path.name for path in RESULTS.iterdir()} == {
        "README.md",
        "machines.json",
        *(f"{name}.json" for name in runs),
    }
    assert {run.machine for run in runs.values()} == set(read_machines())


def test_a_printed_report_is_kept_with_all_that_it_holds(tmp_path: Path) -> None:
    """Settings and samples beside the rows are no reason to refuse it."""
    report = {**RUN["reports"][0], "model": "smollm2-135m", "cells": [{"cell": "b1"}]}
    (kept,) = read_runs(directory(tmp_path, "m-offline.json", {**RUN, "reports": [report]})).values()
    assert kept.reports[0].model_dump() == report


@pytest.mark.parametrize(
    "wrong",
    [
        {"date": "yesterday"},
        {"cpu": "C"},
        {"machine": "other"},
        {"reports": []},
        {"reports": [{"title": "no rows", "rows": []}]},
        {"reports": [{"title": "columns", "rows": [{"a": 1}, {"b": 1}]}]},
    ],
    ids=str,
)
def test_a_malformed_run_is_refused_by_the_name_of_its_file(tmp_path: Path, wrong: dict[str, Any]) -> None:
    """The error says which file to correct."""
    with pytest.raises(ValueError, match=r"m-offline\.json"):
        read_runs(directory(tmp_path, "m-offline.json", RUN | wrong))


def test_a_run_is_named_after_its_machine(tmp_path: Path) -> None:
    """The files of a machine stand together."""
    with pytest.raises(ValueError, match=r"n-offline\.json: a run is named MACHINE-WHAT\.json"):
        read_runs(directory(tmp_path, "n-offline.json", RUN))

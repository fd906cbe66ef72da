"""The benchmark programs measure a small model from end to end."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace

import pytest

from benchmarks import (
    fairness,
    http_overhead,
    kv_move,
    offline,
    online,
    speculation,
    structured_output,
    verification,
    window,
)
from benchmarks.setup import Settings
from mlc_serve.bench.closed_loop import NoMeasureError, Record
from mlc_serve.demo import demo_model_path
from mlc_serve.kv_transfer.kv_port import ALL_TRANSPORTS

SETTINGS = Settings(str(demo_model_path()), "cpu", None, (2,), prompt_tokens=16, max_tokens=8, runs=1)


def test_offline_measures_prefill_and_decode() -> None:
    """A row for the prefill and one for each batch, all with positive rates."""
    rows = asyncio.run(offline.measure(SETTINGS, 32))
    assert [row["measured"] for row in rows] == ["prefill of 32", "decode, batch 2"]
    assert all(float(str(row["tokens_per_s"])) > 0 for row in rows)


def test_positions_are_measured_in_turns() -> None:
    """Each round has a rate for each position, and the first round doesn't count."""
    (found,) = asyncio.run(window.measure(SETTINGS, [16, 8]))
    assert len(found) == 2
    assert min(found) > 0
    near, far = window.rows_of([1, 9], [[100.0, 80.0], [120.0, 60.0], [90.0, 99.0]])
    assert (near["tokens_per_s"], near["slower_pct"]) == (100.0, 0.0)
    assert far["slower_pct"] == pytest.approx(25.0)


def test_the_share_of_http_is_the_ratio_of_both_rates() -> None:
    """Engine and server are measured under the same load."""
    with online.server(SETTINGS) as url:
        (row,) = asyncio.run(http_overhead.compare(SETTINGS, url))
    assert row["concurrency"] == 2
    share = float(str(row["http_tokens_per_s"])) / float(str(row["tokens_per_s"]))
    assert row["http_share"] == pytest.approx(share)


def test_fairness_is_measured_anew_in_each_round() -> None:
    """A round that doesn't count comes first; the medians of the others stand below them."""
    with online.server(SETTINGS) as url:
        rounds = asyncio.run(fairness.measure(url, 1))
    assert len(rounds) == 1
    assert min(rounds[0].values()) > 0
    rows = fairness.rows_of([{"gap": 3.0}, {"gap": 1.0}, {"gap": 7.0}])
    assert [row["round"] for row in rows] == [1, 2, 3, "median"]
    assert rows[-1]["gap"] == 3.0


def test_a_server_that_is_given_is_left_alone() -> None:
    """With --url nothing is started."""
    with online.server(SETTINGS, "http://example.invalid") as url:
        assert url == "http://example.invalid"


def test_structured_output_is_measured_beside_other_output() -> None:
    """Lists and free texts are equally long, forms end by themselves, and ratios are those of the medians."""
    settings = replace(SETTINGS, max_tokens=256)
    with online.server(settings, enable_debug=True) as url:
        costs, gains = asyncio.run(structured_output.measure(settings, url))
    assert costs["answer"] == costs["beside_answer"] == 256
    assert 0 < float(str(gains["answer"])) < 256
    assert costs["tokens_ratio"] == pytest.approx(costs["requests_ratio"])
    rate, beside = (float(str(gains[name])) for name in ("requests_per_s", "beside_requests_per_s"))
    assert gains["requests_ratio"] == rate / beside


def test_passes_with_drafts_are_compared_with_passes_without() -> None:
    """There is a row for each batch, with a ratio for each number of drafts."""
    settings = verification.Settings((1, 4), (1, 2), context=20, passes=1, runs=1)
    rows = verification.measure(str(demo_model_path()), 8, settings)
    assert [list(row) for row in rows] == [["bits", "batch", "ms", "v(1)", "v(4)"]] * 2
    assert [row["batch"] for row in rows] == [1, 2]
    assert min(float(str(value)) for row in rows for value in row.values()) > 0


def test_engines_are_compared_with_drafts_and_without() -> None:
    """Drafts of known answers are kept at the set rate: all or none at the extremes."""
    known, ngram = asyncio.run(speculation.measure(SETTINGS, 1.0, 3))
    assert (known["clients"], known["kept"], ngram["clients"]) == (1, 1.0, 2)
    assert float(str(known["ratio"])) > 0
    wrong, _ = asyncio.run(speculation.measure(SETTINGS, 0.0, 3))
    assert wrong["kept"] == 0


def test_the_ratio_is_the_median_of_the_rounds() -> None:
    """Rather than the ratio of the medians, because both sides of a round meet the same disturbances."""
    rounds = [{True: 10.0, False: 5.0}, {True: 30.0, False: 20.0}, {True: 8.0, False: 8.0}]
    assert speculation.figures_of(rounds) == {"tokens_per_s": 10.0, "without": 8.0, "ratio": 1.5}


def test_prompts_repeat_nothing() -> None:
    """No token comes twice in a prompt, and each round has other prompts."""
    prompts = speculation.prompts_without_repetition(3, 128, seed=1)
    assert [len(set(prompt)) for prompt in prompts] == [128] * 3
    assert prompts != speculation.prompts_without_repetition(3, 128, seed=2)


@pytest.mark.parametrize(("fills", "advice"), [(True, "lower"), (False, "higher")])
def test_answers_that_end_in_another_way_are_not_measured(fills: bool, advice: str) -> None:
    """The error says how to choose --max-tokens."""
    num_tokens = 3 if fills else 4
    with pytest.raises(NoMeasureError, match=f"--max-tokens must be {advice}"):
        structured_output.check_lengths([Record(0.0, [(1.0, num_tokens)])], 4, fills=fills)


def test_prompts_move_between_two_servers() -> None:
    """Each way of moving has a row with whole pages, and one for a stream on each of the servers."""
    settings = replace(SETTINGS, concurrency=(kv_move.KEPT,), prompt_tokens=40, max_tokens=400)
    costs, streams = asyncio.run(kv_move.measure(settings, ALL_TRANSPORTS))
    assert [(row["transport"], row["moved_tokens"]) for row in costs] == [
        (transport, 32) for transport in ALL_TRANSPORTS
    ]
    for row in costs:
        times = {name: float(str(row[f"{name}_ms"])) for name in ("recompute", "move", "transfer")}
        assert 0 < times["transfer"] < times["move"]
        assert float(str(row["ratio"])) == pytest.approx(times["recompute"] / times["move"])
    assert [(row["transport"], row["stream_on"]) for row in streams] == [
        (transport, role) for transport in ALL_TRANSPORTS for role in kv_move.ROLES
    ]
    assert all(float(str(row["itl_p99_ms"])) >= float(str(row["itl_p50_ms"])) > 0 for row in streams)


@pytest.mark.parametrize("program", [offline, online, http_overhead, structured_output, speculation, kv_move])
def test_programs_explain_themselves(
    program: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """--help prints what is measured."""
    monkeypatch.setattr(sys, "argv", ["benchmark", "--help"])
    with pytest.raises(SystemExit):
        program.main()  # type: ignore[attr-defined]
    assert "--concurrency" in capsys.readouterr().out

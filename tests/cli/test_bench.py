"""`mlc_serve bench`: its flags, and how figures are shown."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mlc_serve import cli
from mlc_serve.config import Workload
from mlc_serve.interface import bench as interface

FIGURES = ("tokens_per_s", "ttft_p50_ms", "ttft_p95_ms", "itl_p50_ms", "itl_p95_ms", "spread")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Records how the measuring functions are called; nothing is measured."""
    recorded: list[tuple[Any, ...]] = []

    def measured(*arguments: Any) -> list[dict[str, object]]:
        recorded.append(arguments)
        return [{"concurrency": 1, **dict.fromkeys(FIGURES, 123.456)}]

    monkeypatch.setattr(interface, "bench_in_process", measured)
    monkeypatch.setattr(interface, "bench_server", measured)
    return recorded


def run(line: str) -> int:
    """The exit code of a command line."""
    return cli.main(line.split())


def test_flags_reach_the_measurement(calls: list[tuple[Any, ...]]) -> None:
    """In process they are the engine's; for a server, its address and key."""
    assert run("bench dir --device cpu --runs 2 --prefill-tokens 9 --concurrency 1 8") == 0
    engine, launch, workload, prefill, batches = calls.pop()
    assert (engine.model, launch.device, prefill, batches) == ("dir", "cpu", 9, [1, 8])
    assert workload == Workload(runs=2)

    assert cli.main(["bench", "name", "--url", "http://host:1", "--api-key", "k", "--max-tokens", "3"]) == 0
    assert calls.pop() == ("http://host:1/v1", "name", "k", Workload(max_tokens=3), [1, 4], None)


def test_figures_are_a_table_or_json(
    calls: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    """The table is for people, the JSON for programs."""
    assert cli.main(["bench"]) == 0
    heading, row = capsys.readouterr().out.splitlines()
    assert heading.startswith("concurrency  tokens/s  TTFT p50 ms")
    assert row.split() == ["1", *["123.5"] * 5]
    assert cli.main(["bench", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["spread"] == 123.456


def test_tokens_of_a_step_are_shown_if_they_were_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They stand beside the rate; a row without them, such as that of a prefill, has an empty cell."""
    figures = dict.fromkeys(FIGURES, 123.456)
    rows = [{"measured": "prefill", **figures}, {"measured": "decode", **figures, "tokens_per_step": 2.345}]
    monkeypatch.setattr(interface, "bench_in_process", lambda *_: rows)
    assert cli.main(["bench", "--speculative-mode", "ngram"]) == 0
    heading, prefill, decode = capsys.readouterr().out.splitlines()
    assert heading.split()[:3] == ["measured", "tokens/s", "tokens/step"]
    assert prefill.split() == ["prefill", *["123.5"] * 5]
    assert decode.split()[:3] == ["decode", "123.5", "2.35"]


@pytest.mark.parametrize(
    ("flags", "fault"),
    [
        ("--url host:1", "'host:1': expected a URL such as http://127.0.0.1:8000/v1"),
        ("--url http://host --quantization q0f16", "--quantization can't be combined with --url"),
        ("--url http://host --overrides opt=O1", "--overrides can't be combined with --url"),
        ("--url http://host --prefill-tokens 5", "--prefill-tokens can't be combined with --url"),
        ("--api-key k", "--api-key is only for a running server: give its address with --url"),
        ("--concurrency 0", "'0': expected an integer of at least 1"),
        ("--runs 0", "'0': expected an integer of at least 1"),
        ("--additional-models x", "it needs a --speculative-mode such as small_draft"),
        ("--overrides prefix_cache_mode=radix", "bench always measures without a prefix cache"),
    ],
)
def test_what_has_no_effect_is_refused(
    calls: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str], flags: str, fault: str
) -> None:
    """The flag is named before anything is loaded."""
    assert cli.main(["bench", *flags.split()]) == 2
    assert fault in capsys.readouterr().err
    assert calls == []

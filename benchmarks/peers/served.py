"""The comparison of servers: closed-loop streaming load over HTTP, and two probes of fairness.

OpenVINO GenAI has no server here. Its rate for the same load is that of the library alone, prefill included.
Every request has its own connection, because llama-server closes connections that it promised to keep.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import uvloop

from benchmarks.peers.cells import CONCURRENCY, LOAD
from benchmarks.peers.contest import Contest
from benchmarks.peers.openvino import OpenVinoModel
from benchmarks.peers.probes import probe_both
from benchmarks.peers.ratios import median_and_range, medians
from benchmarks.peers.rounds import say
from benchmarks.peers.servers import Start, llama_server, our_server
from benchmarks.report import Row, table
from mlc_serve.bench.asking import ask_server
from mlc_serve.bench.closed_loop import Ask, AskFor, Prompt, closed_loop, random_prompts, summary
from mlc_serve.bench.event_client import EventClient

SLOTS = (8, 32)
# The figures of a round, by what was measured: a number of clients, or the probes.
Figures = Mapping[str, Mapping[str, float]]


def print_comparison(contest: Contest, runs: int, logs: Path) -> None:
    """Measure all servers in turn and print two tables."""
    say(f"servers of {contest.title}")
    starts = {contest.ours.name: our_server(contest.ours, logs / "mlc_serve.log")}
    for slots in SLOTS:
        log = logs / f"llama-server-{slots}.log"
        starts[f"llama-server, {slots} slots"] = llama_server(contest.llama_cpp, slots, log)
    rounds = [_round(starts, contest.openvino, number) for number in range(1, runs + 1)]
    print(f"\nservers, {contest.title}, {runs} rounds\n")
    print(table(loads := load_rows(rounds, contest.ours.name)))
    print(f"\nprobes, {contest.title}\n")
    print(table(probes := probe_rows(rounds)))
    print(json.dumps({"title": f"probes, {contest.title}", "rows": probes}))
    print(json.dumps({"title": f"servers, {contest.title}", "rows": loads, "rounds": rounds}), flush=True)


def _round(starts: Mapping[str, Start], library: OpenVinoModel | None, number: int) -> dict[str, Figures]:
    """Measure each side once."""
    found: dict[str, Figures] = {}
    for name, start in starts.items():
        with start() as url:
            found[name] = uvloop.run(measure(url, number))
        say(f"round {number}: {name} {_rates(found[name])}")
    if library is None:
        return found
    rates = {str(clients): {"tokens_per_s": library.measure_load(clients)} for clients in CONCURRENCY}
    found[f"{library.name}, no server"] = rates
    say(f"round {number}: {library.name} {_rates(rates)}")
    return found


async def measure(url: str, seed: int) -> Figures:
    """The figures of a server, after a warm-up."""
    ask_for = partial(ask_on_new_connection, url)
    await _load(ask_for, min(CONCURRENCY), 0, min(CONCURRENCY))
    figures = {
        str(clients): await _load(ask_for, clients, 2 * seed + index, LOAD.requests)
        for index, clients in enumerate(CONCURRENCY)
    }
    return {**figures, "probes": await probe_both(ask_for, seed)}


async def _load(ask_for: AskFor, clients: int, seed: int, requests: int) -> dict[str, float]:
    prompts = random_prompts(requests, LOAD.prompt, seed)
    return summary(await closed_loop(ask_for(LOAD.answer), prompts, clients))


def ask_on_new_connection(url: str, max_tokens: int) -> Ask:
    """A function that asks a server for exactly `max_tokens` greedy tokens, each time on a new connection."""

    async def ask(prompt: Prompt) -> AsyncIterator[int]:
        async with EventClient(url) as client:
            async for count in ask_server(client, max_tokens)(prompt):
                yield count

    return ask


def load_rows(rounds: Sequence[Mapping[str, Figures]], ours: str) -> list[Row]:
    """A row for each number of clients and each side: its rate with the range, the ratio of our rate to it,
    and medians of times.
    """
    return [_load_row(rounds, str(clients), name, ours) for clients in CONCURRENCY for name in rounds[0]]


def _load_row(rounds: Sequence[Mapping[str, Figures]], clients: str, name: str, ours: str) -> Row:
    runs = [found[name][clients] for found in rounds]
    figures, our_figures = medians(runs), medians([found[ours][clients] for found in rounds])
    return {
        "clients": clients,
        "server": name,
        "tokens/s": median_and_range([run["tokens_per_s"] for run in runs]),
        f"{ours} / it": f"{our_figures['tokens_per_s'] / figures['tokens_per_s']:.2f}",
        "TTFT p50 / p95 ms": _pair(figures, "ttft"),
        "ITL p50 / p95 ms": _pair(figures, "itl"),
    }


def probe_rows(rounds: Sequence[Mapping[str, Figures]]) -> list[Row]:
    """A row for each server with the medians of the probes."""
    servers = [name for name, figures in rounds[0].items() if "probes" in figures]
    return [_probe_row(name, medians([found[name]["probes"] for found in rounds])) for name in servers]


def _probe_row(name: str, figures: Mapping[str, float]) -> Row:
    return {
        "server": name,
        "longest gap ms": figures["longest_gap_ms"],
        "longest / median gap": figures["longest_to_median_gap"],
        "TTFT of the long prompt ms": figures["long_ttft_ms"],
        "TTFT behind a burst ms": figures["short_ttft_ms"],
    }


def _pair(figures: Mapping[str, float], name: str) -> str:
    keys = [f"{name}_p50_ms", f"{name}_p95_ms"]
    return " / ".join(f"{figures[key]:.0f}" for key in keys) if keys[0] in figures else "-"


def _rates(figures: Figures) -> str:
    found = {name: of_name["tokens_per_s"] for name, of_name in figures.items() if "tokens_per_s" in of_name}
    return ", ".join(f"{rate:.0f} tokens/s at {clients} clients" for clients, rate in found.items())

"""What a router keeps of a prefix cache that is spread over two servers, and what it costs.

    python -m benchmarks.router [--shape smollm2-135m] [--concurrency 8] [--conversations 16] [--turns 5]

First table: conversations that share system prompts, each turn after the same turn of all others. They are
answered by one server with a cache of a certain size, and through a router by two servers with half of it
each: in mode prefix, and in mode round-robin. `hit_share` is the share of prompt tokens that were cached, and
`of_one` compares it with that of the one server. All servers run at the same time and take turns.

Second table: the one server's rate and times under closed-loop load, beside those of the same server through
a router. `ttft_more_ms` is the time to the first token, less that within the engine, which the server tells,
and less the same without a router: by chance, the engine's own time differs far more. It and `rate_ratio` are
medians over the runs.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import uvloop

from benchmarks.peers.servers import POLL_SECONDS, START_SECONDS, Program, running
from benchmarks.replies import whole_reply
from benchmarks.report import Row, print_report
from benchmarks.setup import PAGE, Settings, add_arguments, settings_of
from mlc_serve.bench.asking import ask_server
from mlc_serve.bench.closed_loop import (
    TOKEN_IDS,
    NoMeasureError,
    Prompt,
    Record,
    closed_loop,
    random_prompts,
    summary,
)
from mlc_serve.bench.event_client import EventClient
from mlc_serve.bench.measures import WAVES
from mlc_serve.config.option import command_line

ONE, PREFIX, ROUND_ROBIN = "one server", "router, prefix", "router, round-robin"
# About so many conversations share a system prompt.
GROUP = 4


@dataclass(frozen=True)
class Chats:
    """The conversations: their number, their turns, and the lengths of system prompts and turns in tokens."""

    conversations: int
    turns: int
    system_tokens: int
    turn_tokens: int

    @property
    def num_cached(self) -> int:
        """Tokens that all conversations have at their end, if each keeps its own system prompt."""
        return self.conversations * (self.system_tokens + self.turns * self.turn_tokens)

    def prompts(self, seed: int) -> Iterator[list[Prompt]]:
        """Yield the prompts of each turn of all conversations, in a random order."""
        generator = random.Random(seed)
        num_systems = -(-self.conversations // GROUP)
        systems = random_prompts(num_systems, self.system_tokens, generator.randrange(1 << 30))
        chats = [list(systems[number % num_systems]) for number in range(self.conversations)]
        for _ in range(self.turns):
            for chat in chats:
                chat.extend(generator.choices(TOKEN_IDS, k=self.turn_tokens))
            yield generator.sample([tuple(chat) for chat in chats], len(chats))


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.set_defaults(concurrency=[8])
    parser.add_argument("--conversations", type=int, default=16)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--system-tokens", type=int, default=256)
    parser.add_argument("--turn-tokens", type=int, default=64)
    options = parser.parse_args()
    settings = settings_of(options)
    chats = Chats(options.conversations, options.turns, options.system_tokens, options.turn_tokens)
    with tempfile.TemporaryDirectory() as logs, contenders(settings, chats, Path(logs)) as urls:
        shares = uvloop.run(hit_shares(settings, chats, urls))
        with routed(["--backend", urls[ONE]], 1, Path(logs, "overhead.log")) as url:
            costs = uvloop.run(overhead(settings, urls[ONE], url))
    sizes = {"conversations": chats.conversations, "turns": chats.turns, "system": chats.system_tokens}
    print_report("router, prefix hits", {**settings.listing(), **sizes}, share_rows(shares))
    print_report("router, overhead", settings.listing(), costs)


@contextmanager
def contenders(settings: Settings, chats: Chats, logs: Path) -> Iterator[Mapping[str, str]]:
    """The addresses of the one server and of the two routers, all of which run."""
    concurrency = max(settings.concurrency)
    slack = concurrency * (chats.turn_tokens + settings.max_tokens + 2 * PAGE)
    with ExitStack() as stack:
        whole = settings.caching_config(chats.num_cached + slack)
        command = settings.serve_command(whole)
        urls = {ONE: stack.enter_context(running(Program(command, "/ready"), logs / "one.log"))}
        half = settings.caching_config((chats.num_cached + slack) // 2)
        for name, mode in ((PREFIX, "prefix"), (ROUND_ROBIN, "round-robin")):
            flags = [settings.model, "--replicas=2", f"--router-mode={mode}", *command_line(half)]
            urls[name] = stack.enter_context(routed(flags, 2, logs / f"{mode}.log"))
        yield urls


@contextmanager
def routed(flags: Sequence[str], num_servers: int, log: Path) -> Iterator[str]:
    """The address of a router with these flags, when all of its servers are up."""
    program = Program([sys.executable, "-m", "mlc_serve", "router", *flags], "/health")
    with running(program, log) as url:
        end = time.monotonic() + START_SECONDS
        while num_up(url) < num_servers:
            if time.monotonic() > end:
                raise RuntimeError(f"the servers were not ready; {log} says why")
            time.sleep(POLL_SECONDS)
        yield url


def num_up(url: str) -> int:
    """How many servers a router says are up."""
    return int(metric(url, "mlc_serve_router_server_up"))


def metric(url: str, name: str) -> float:
    """The sum of a metric's samples."""
    lines = httpx.get(f"{url}/metrics", trust_env=False, timeout=60).text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


async def hit_shares(
    settings: Settings, chats: Chats, urls: Mapping[str, str]
) -> Mapping[str, Sequence[float]]:
    """The share of prompt tokens that each contender had cached, in each run."""
    shares: dict[str, list[float]] = {name: [] for name in urls}
    for run in range(settings.runs):
        for name, url in urls.items():
            async with EventClient(url) as client:
                shares[name].append(await hit_share(client, settings, chats, seed=1 + run))
    return shares


async def hit_share(client: EventClient, settings: Settings, chats: Chats, seed: int) -> float:
    """The share of prompt tokens that were cached while all conversations went on, turn by turn."""
    limit = asyncio.Semaphore(max(settings.concurrency))

    async def ask(prompt: Prompt) -> tuple[int, int]:
        body = {"prompt": list(prompt), "max_tokens": settings.max_tokens, "temperature": 0}
        async with limit:
            usage = (await whole_reply(client, "/v1/completions", body))["usage"]
        return usage["prompt_tokens_details"]["cached_tokens"], usage["prompt_tokens"]

    found = [pair for prompts in chats.prompts(seed) for pair in await asyncio.gather(*map(ask, prompts))]
    return sum(cached for cached, _ in found) / sum(length for _, length in found)


def share_rows(shares: Mapping[str, Sequence[float]]) -> list[Row]:
    """A row for each contender with the medians over the runs."""
    ones = shares[ONE]
    return [
        {
            "servers": name,
            "hit_share": statistics.median(own),
            "of_one": statistics.median(share / one for share, one in zip(own, ones, strict=True)),
        }
        for name, own in shares.items()
    ]


async def overhead(settings: Settings, direct: str, through: str) -> list[Row]:
    """A row for each concurrency: a server's figures without and with a router, which take turns."""
    async with EventClient(direct) as near, EventClient(through) as far:
        clients = {"direct": near, "routed": far}
        return [await compare(clients, direct, settings, number) for number in settings.concurrency]


async def compare(
    clients: Mapping[str, EventClient], server: str, settings: Settings, concurrency: int
) -> Row:
    """The medians over the runs, after one that does not count, of both sides and of what lies between.

    `server` is the address of the server behind both.
    """
    runs = []
    for run in range(1 + settings.runs):
        found = {}
        for side, (name, client) in enumerate(clients.items()):
            prompts = random_prompts(WAVES * concurrency, settings.prompt_tokens, 2 * run + side)
            records, within = await engines_ttft(
                server, closed_loop(ask_server(client, settings.max_tokens), prompts, concurrency)
            )
            seen = statistics.fmean(record.first - record.sent for record in records)
            found[name] = summary(records) | {"ttft_outside_ms": 1000 * (seen - within)}
        runs.append(found)
    return {"concurrency": concurrency, **differences(runs[1:])}


async def engines_ttft(server: str, load: Awaitable[Sequence[Record]]) -> tuple[Sequence[Record], float]:
    """The records of a load on a server, and the mean time to the first token within its engine, in seconds.

    Raises NoMeasureError if the server has answered other requests meanwhile.
    """
    total, count = (f"mlc_serve_time_to_first_token_seconds_{name}" for name in ("sum", "count"))
    seconds, number = metric(server, total), metric(server, count)
    records = await load
    if metric(server, count) - number != len(records):
        raise NoMeasureError("the server has other clients")
    return records, (metric(server, total) - seconds) / len(records)


def differences(runs: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, float]:
    """The medians of both sides, of the ratio of their rates, and of what the first token takes longer."""
    both = [(run["direct"], run["routed"]) for run in runs]
    rates = {
        f"{name}_tokens_per_s": statistics.median(run[name]["tokens_per_s"] for run in runs)
        for name in ("direct", "routed")
    }
    ratios = [far["tokens_per_s"] / near["tokens_per_s"] for near, far in both]
    later = [far["ttft_outside_ms"] - near["ttft_outside_ms"] for near, far in both]
    return {
        **rates,
        "rate_ratio": statistics.median(ratios),
        "ttft_p50_ms": statistics.median(near["ttft_p50_ms"] for near, _ in both),
        "ttft_more_ms": statistics.median(later),
    }


if __name__ == "__main__":
    main()

"""What it costs to move a prompt's keys and values to another server, beside computing the prompt there.

    python -m benchmarks.kv_move [--shape llama3.2-1b] [--prompt-tokens 1000] [--runs 5] [--transports tcp]

Two servers run on this machine, each with every core, and take turns. Each run has prompts of its own.

First table: `recompute_ms` is the time until the second server has the first token of a prompt that is new to
it, and `move_ms` that of a prompt that the first server has cached, with all calls: prep_recv, remote_send
and start_generate. `transfer_ms` is remote_send alone, and `gb_per_s` what is moved divided by it. `ratio` is
the median of `recompute_ms` / `move_ms`. Figures are medians over the runs, after one that does not count.

Second table: the times between tokens of a stream of `--max-tokens` tokens on one of the servers, while
prefixes move (prep_recv and remote_send), and while none does (`alone`). The gaps of all runs count as one
list.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import uvloop

from benchmarks.peers.probes import follow
from benchmarks.peers.ratios import medians
from benchmarks.peers.servers import Program, running
from benchmarks.replies import whole_reply
from benchmarks.report import Row, print_report
from benchmarks.setup import PAGE, Settings, add_arguments, settings_of
from mlc_serve.bench.asking import ask_server
from mlc_serve.bench.closed_loop import NoMeasureError, Prompt, Record, percentile, random_prompts
from mlc_serve.bench.event_client import EventClient
from mlc_serve.kv_transfer.address import Address, Transport
from mlc_serve.kv_transfer.kv_port import ALL_TRANSPORTS

# The prefixes that move while a stream runs.
MOVES = 4
# A server has room for the prompts that are to move, and for as many others.
KEPT = 2 * MOVES
STREAM_PROMPT = 32

Role = Literal["sender", "receiver"]
ROLES: Sequence[Role] = ("sender", "receiver")
# Clients of a server that sends prefixes, and of one that receives them.
Pair = Mapping[Role, EventClient]


@dataclass(frozen=True)
class Move:
    """A prefix that has moved: when the first call began, when remote_send began, and when all was there, in
    seconds of time.perf_counter().
    """

    began: float
    sent: float
    arrived: float
    num_tokens: int
    num_bytes: int


@dataclass
class Gaps:
    """Seconds between the tokens of streams: while prefixes moved, and while none did."""

    during: list[float] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)

    def add(self, record: Record, moves: Sequence[Move]) -> None:
        """Add the gaps of one stream. A gap that overlaps a move belongs to the moves."""
        for start, end in record.waits:
            overlaps = any(start < move.arrived and end > move.began for move in moves)
            (self.during if overlaps else self.alone).append(end - start)

    def figures(self) -> dict[str, float]:
        """Both sides in milliseconds. Raises NoMeasureError if a side has no gaps."""
        if not (self.during and self.alone):
            raise NoMeasureError("no stream went on while a prefix moved: --max-tokens must be higher")
        return {
            "gaps": len(self.during),
            "itl_p50_ms": 1000 * statistics.median(self.during),
            "itl_p99_ms": 1000 * percentile(self.during, 99),
            "alone_itl_p50_ms": 1000 * statistics.median(self.alone),
            "alone_itl_p99_ms": 1000 * percentile(self.alone, 99),
        }


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--transports", nargs="+", choices=ALL_TRANSPORTS, default=list(ALL_TRANSPORTS))
    parser.set_defaults(shape="llama3.2-1b", concurrency=[KEPT], prompt_tokens=1000, max_tokens=96)
    options = parser.parse_args()
    settings = settings_of(options)
    costs, streams = uvloop.run(measure(settings, options.transports))
    print_report("kv move", settings.listing(), costs)
    print_report("kv move, streams beside it", settings.listing(), streams)


async def measure(settings: Settings, transports: Sequence[Transport]) -> tuple[list[Row], list[Row]]:
    """The rows of both tables."""
    seeds = itertools.count()
    async with servers(settings) as pair:
        costs = await costs_of(pair, settings, transports, seeds)
        return costs, await streams_of(pair, settings, transports, seeds)


@asynccontextmanager
async def servers(settings: Settings) -> AsyncIterator[Pair]:
    """Clients of two servers, which run while the context is open."""
    num_tokens = KEPT * (settings.prompt_tokens + 2 * PAGE) + STREAM_PROMPT + settings.max_tokens + PAGE
    program = Program(settings.serve_command(settings.caching_config(num_tokens)), "/ready")
    with tempfile.TemporaryDirectory() as logs, ExitStack() as stack:
        urls = [stack.enter_context(running(program, Path(logs, f"{role}.log"))) for role in ROLES]
        async with EventClient(urls[0]) as sender, EventClient(urls[1]) as receiver:
            yield {"sender": sender, "receiver": receiver}


async def costs_of(
    pair: Pair, settings: Settings, transports: Sequence[Transport], seeds: Iterator[int]
) -> list[Row]:
    """A row for each transport. These take turns."""
    found: dict[Transport, list[dict[str, float]]] = {transport: [] for transport in transports}
    for _ in range(1 + settings.runs):
        for transport, runs in found.items():
            runs.append(await compare(pair, settings.prompt_tokens, transport, next(seeds)))
    return [{"transport": transport, **medians(runs[1:])} for transport, runs in found.items()]


async def compare(pair: Pair, length: int, transport: Transport, seed: int) -> dict[str, float]:
    """The figures of one run, in which a prompt is computed and another one moves."""
    new, cached = random_prompts(2, length, seed)
    recompute = await first_token(pair["receiver"], new)
    await first_token(pair["sender"], cached)
    body = move_body(cached, f"run {seed}")
    move = await moved(pair, body, transport)
    start = {**body, "begin": -1}
    rest = await timed(pair["receiver"], "/microserving/start_generate", start, move.num_tokens)
    whole, transfer = move.arrived - move.began + rest, move.arrived - move.sent
    return {
        "moved_tokens": move.num_tokens,
        "moved_mb": move.num_bytes / 1e6,
        "recompute_ms": 1000 * recompute,
        "move_ms": 1000 * whole,
        "transfer_ms": 1000 * transfer,
        "gb_per_s": move.num_bytes / 1e9 / transfer,
        "ratio": recompute / whole,
    }


async def first_token(client: EventClient, prompt: Prompt) -> float:
    """Seconds until a server has computed a prompt that is new to it, which it then has cached."""
    body = {"prompt": list(prompt), "max_tokens": 1, "temperature": 0}
    return await timed(client, "/v1/completions", body, num_cached=0)


async def timed(client: EventClient, path: str, body: Mapping[str, object], num_cached: int) -> float:
    """Seconds until a completion of one token is there. Raises NoMeasureError unless so many tokens of its
    prompt were cached.
    """
    began = time.perf_counter()
    reply = await whole_reply(client, path, body)
    seconds = time.perf_counter() - began
    found = reply["usage"]["prompt_tokens_details"]["cached_tokens"]
    if found != num_cached:
        raise NoMeasureError(f"{found} tokens of a prompt were cached, and {num_cached} should be")
    return seconds


def move_body(prompt: Prompt, user: str) -> dict[str, object]:
    """What the calls that move a prompt have in common."""
    return {"prompt": list(prompt), "user": user, "max_tokens": 1, "temperature": 0}


async def moved(pair: Pair, body: Mapping[str, object], transport: Transport) -> Move:
    """Move all of a prompt but its last token, and what is left of its page, to the receiver."""
    began = time.perf_counter()
    prepared = await whole_reply(pair["receiver"], "/microserving/prep_recv", {**body, "end": -1})
    address = Address.decoded(prepared["kv_append_metadata"])
    only = replace(address, transports=[transport]).encoded()
    window = {"begin": prepared["prefix_matched_length"], "end": -1, "kv_addr_info": only}
    sent = time.perf_counter()
    await whole_reply(pair["sender"], "/microserving/remote_send", {**body, **window})
    num_tokens = address.stop - address.stop % PAGE - address.start
    return Move(began, sent, time.perf_counter(), num_tokens, address.terms.num_bytes)


async def streams_of(
    pair: Pair, settings: Settings, transports: Sequence[Transport], seeds: Iterator[int]
) -> list[Row]:
    """A row for each transport and each server that has a stream. These take turns."""
    found = {(transport, role): Gaps() for transport in transports for role in ROLES}
    for _ in range(settings.runs):
        for (transport, role), gaps in found.items():
            gaps.add(*await beside_stream(pair, settings, transport, role, next(seeds)))
    return [
        {"transport": transport, "stream_on": role, **gaps.figures()}
        for (transport, role), gaps in found.items()
    ]


async def beside_stream(
    pair: Pair, settings: Settings, transport: Transport, role: Role, seed: int
) -> tuple[Record, Sequence[Move]]:
    """Move prefixes one after the other while one of the servers has a stream, and return both."""
    beginning, *prompts = random_prompts(1 + MOVES, settings.prompt_tokens, seed)
    for prompt in prompts:
        await first_token(pair["sender"], prompt)
    ask, under_way = ask_server(pair[role], settings.max_tokens), asyncio.Event()
    stream = asyncio.create_task(follow(ask, beginning[:STREAM_PROMPT], under_way))
    await under_way.wait()
    moves = []
    for number, prompt in enumerate(prompts):
        body = move_body(prompt, f"run {seed}, {number}")
        moves.append(await moved(pair, body, transport))
        await whole_reply(pair["receiver"], "/microserving/abort", {"user": body["user"]})
    return await stream, moves


if __name__ == "__main__":
    main()

"""What a streamed token costs the server, the model aside: CPU time of its process, by API and concurrency.

    python -m benchmarks.http_path [--concurrency 1 8 32] [--step-ms 20] [--max-tokens 128] [--against DIR]

The server's model costs nothing and draws at a fixed pace (`benchmarks.paced_server`). The process therefore
spends its time on the engine's loop, text, chunks, HTTP and sockets only. `loop_us` is the thread of the
event loop alone. With `--against`, the server of another checkout of this repository is measured too. The two
take turns, run by run, so that whatever else the machine does affects both.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import uvloop

from benchmarks.report import Row, print_report
from mlc_serve.bench.asking import ask_chat, ask_server
from mlc_serve.bench.closed_loop import Ask, closed_loop, median_of, random_prompts, summary
from mlc_serve.bench.event_client import EventClient

PROMPT_TOKENS = 16
ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class CpuTime:
    """Seconds computed so far: by the server's process, by its event loop's thread, and by this process."""

    server: float
    event_loop: float
    load: float

    @classmethod
    def now(cls, server: psutil.Process) -> CpuTime:
        """Read the clocks of a server's process and of this one."""
        process = server.cpu_times()
        (main,) = [thread for thread in server.threads() if thread.id == server.pid]
        return cls(process.user + process.system, main.user_time + main.system_time, time.process_time())


@dataclass(frozen=True)
class Load:
    """The load on a server: so many clients, requests for each of them, and runs."""

    concurrency: int
    waves: int
    runs: int


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--step-ms", type=float, default=20, help="time of an engine's step")
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--waves", type=int, default=2, help="requests of each client in a run")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--against", type=Path, help="directory of another checkout to compare with")
    options = parser.parse_args()
    loads = [Load(concurrency, options.waves, options.runs) for concurrency in options.concurrency]
    checkouts = {"": ROOT} | ({"against_": options.against.resolve()} if options.against else {})
    with ExitStack() as stack:
        servers = [
            stack.enter_context(paced_server(options.step_ms, checkout, prefix))
            for prefix, checkout in checkouts.items()
        ]
        rows = uvloop.run(measure(servers, loads, options.max_tokens))
    print_report("http path", {"step ms": options.step_ms, "output": options.max_tokens}, rows)


@dataclass(frozen=True)
class Server:
    """A running server. `prefix` stands before the names of its figures."""

    prefix: str
    url: str
    process: psutil.Process


@contextmanager
def paced_server(step_ms: float, checkout: Path = ROOT, prefix: str = "") -> Iterator[Server]:
    """Start a server from a checkout of this repository, and end it afterwards."""
    command = [sys.executable, "-m", "benchmarks.paced_server", "--step-ms", str(step_ms)]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=checkout, env=environment
    ) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            found = re.search(r"http://\S+", line)
            if found is None:
                raise RuntimeError(f"the server did not start: {line!r}")
            yield Server(prefix, found[0], psutil.Process(process.pid))
        finally:
            process.terminate()


async def measure(servers: Sequence[Server], loads: Sequence[Load], max_tokens: int) -> list[Row]:
    """A row for each API and load."""
    apis = {"completions": ask_server, "chat": ask_chat}
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(EventClient(server.url)) for server in servers]
        return [
            {
                "api": api,
                "concurrency": load.concurrency,
                **await measure_load([ask(client, max_tokens) for client in clients], servers, load),
            }
            for api, ask in apis.items()
            for load in loads
        ]


async def measure_load(asks: Sequence[Ask], servers: Sequence[Server], load: Load) -> dict[str, float]:
    """The medians of what `measure_run` finds for each server. The servers take turns."""

    async def run(seed: int) -> dict[str, float]:
        figures: dict[str, float] = {}
        for ask, server in zip(asks, servers, strict=True):
            measured = await measure_run(ask, server.process, load, seed)
            figures |= {server.prefix + name: value for name, value in measured.items()}
        return figures

    return await median_of(load.runs, run)


async def measure_run(ask: Ask, server: psutil.Process, load: Load, seed: int) -> dict[str, float]:
    """Microseconds for each token: the server, the thread of its event loop, and the load generator."""
    prompts = random_prompts(load.waves * load.concurrency, PROMPT_TOKENS, seed)
    before = CpuTime.now(server)
    records = await closed_loop(ask, prompts, load.concurrency)
    after = CpuTime.now(server)
    per_token = 1e6 / sum(record.num_tokens for record in records)
    return {
        "server_us": per_token * (after.server - before.server),
        "loop_us": per_token * (after.event_loop - before.event_loop),
        "load_us": per_token * (after.load - before.load),
        "tokens_per_s": summary(records)["tokens_per_s"],
    }


if __name__ == "__main__":
    main()

"""What a streamed token costs the server beside the model: CPU time of its process, by API and concurrency.

    python -m benchmarks.http_path [--concurrency 1 8 32] [--step-ms 20] [--max-tokens 128]

The server's model costs nothing and draws at a fixed pace (`benchmarks.paced_server`), so that all that its
process computes is engine loop, text, chunks, HTTP and sockets. `loop_us` is the event loop's thread alone.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import uvloop

from benchmarks.report import Row, print_report
from mlc_serve.bench.asking import ask_chat, ask_server
from mlc_serve.bench.event_client import EventClient
from mlc_serve.bench.load import Ask, closed_loop, median_of, random_prompts, summary

WAVES = 2
PROMPT_TOKENS = 16


@dataclass(frozen=True)
class CpuTime:
    """Seconds computed so far: by the server's process, by its event loop's thread, and by this process."""

    server: float
    event_loop: float
    load: float

    @classmethod
    def now(cls, server: psutil.Process) -> CpuTime:
        """Read the clocks."""
        process = server.cpu_times()
        (main,) = [thread for thread in server.threads() if thread.id == server.pid]
        return cls(process.user + process.system, main.user_time + main.system_time, time.process_time())


@dataclass(frozen=True)
class Load:
    """How a server is asked."""

    concurrency: int
    runs: int


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--step-ms", type=float, default=20, help="time of an engine's step")
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    loads = [Load(concurrency, options.runs) for concurrency in options.concurrency]
    with paced_server(options.step_ms) as (url, process):
        rows = uvloop.run(measure(url, process, loads, options.max_tokens))
    print_report("http path", {"step ms": options.step_ms, "output": options.max_tokens}, rows)


@contextmanager
def paced_server(step_ms: float) -> Iterator[tuple[str, psutil.Process]]:
    """The address and the process of a server that is started and ended."""
    command = [sys.executable, "-m", "benchmarks.paced_server", "--step-ms", str(step_ms)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            found = re.search(r"http://\S+", line)
            if found is None:
                raise RuntimeError(f"the server did not start: {line!r}")
            yield found[0], psutil.Process(process.pid)
        finally:
            process.terminate()


async def measure(url: str, server: psutil.Process, loads: list[Load], max_tokens: int) -> list[Row]:
    """A row for each API and load."""
    async with EventClient(url) as client:
        asks = {"completions": ask_server(client, max_tokens), "chat": ask_chat(client, max_tokens)}
        return [
            {"api": api, "concurrency": load.concurrency, **await measure_load(ask, server, load)}
            for api, ask in asks.items()
            for load in loads
        ]


async def measure_load(ask: Ask, server: psutil.Process, load: Load) -> dict[str, float]:
    """Microseconds a token, of the server, of its event loop's thread, and of the load generator."""

    async def run(seed: int) -> dict[str, float]:
        prompts = random_prompts(WAVES * load.concurrency, PROMPT_TOKENS, seed)
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

    return await median_of(load.runs, run)


if __name__ == "__main__":
    main()

"""A server under closed-loop streaming load: tokens a second, time to first token, time between tokens.

    python -m benchmarks.online [--url http://127.0.0.1:8000] [--shape smollm2-135m] [--concurrency 1 8 32]

Without --url a server is started for the time of the measurement. The load comes from the same machine.
"""

from __future__ import annotations

import argparse
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvloop

from benchmarks.event_client import EventClient
from benchmarks.load import Ask, closed_loop, median_of, random_prompts, summary
from benchmarks.report import Row, print_report
from benchmarks.setup import Settings, add_arguments, ask_server, settings_of
from mlc_serve import PopenServer

# Requests of one run for each that is under way at once.
WAVES = 3


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--url", help="a server that runs already")
    options = parser.parse_args()
    settings = settings_of(options)
    with server(settings, options.url) as url:
        rows = uvloop.run(measure(settings, url))
    print_report("online", settings.listing(), rows)


@contextmanager
def server(settings: Settings, url: str | None = None) -> Iterator[str]:
    """The address of a server: the one given, or one that is started and ended."""
    if url is not None:
        yield url
        return
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    config = settings.engine_config()
    with PopenServer(
        settings.model, settings.device, engine_config=config, enable_debug=False, port=port
    ) as started:
        yield started.base_url


async def measure(settings: Settings, url: str) -> list[Row]:
    """A row for each concurrency."""
    async with EventClient(url) as session:
        ask = ask_server(session, settings.max_tokens)
        return [await measure_load(ask, settings, concurrency) for concurrency in settings.concurrency]


async def measure_load(ask: Ask, settings: Settings, concurrency: int) -> Row:
    """What a number of clients see that each send a request as soon as the last is answered."""

    async def run(seed: int) -> dict[str, float]:
        prompts = random_prompts(WAVES * concurrency, settings.prompt_tokens, seed)
        return summary(await closed_loop(ask, prompts, concurrency))

    return {"concurrency": concurrency, **await median_of(settings.runs, run)}


if __name__ == "__main__":
    main()

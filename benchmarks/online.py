"""A server under closed-loop streaming load: tokens a second, time to first token, time between tokens.

    python -m benchmarks.online [--url http://127.0.0.1:8000] [--shape smollm2-135m] [--concurrency 1 8 32]

Without --url, a server runs for as long as the measurement takes. The load comes from the same machine.
"""

from __future__ import annotations

import argparse
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvloop

from benchmarks.report import Row, print_report
from benchmarks.setup import Settings, add_arguments, settings_of
from mlc_serve import PopenServer
from mlc_serve.bench.asking import ask_server
from mlc_serve.bench.event_client import EventClient
from mlc_serve.bench.measures import measure_load


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
def server(settings: Settings, url: str | None = None, *, enable_debug: bool = False) -> Iterator[str]:
    """The address of a server: `url`, or that of a server that runs while the context is open."""
    if url is not None:
        yield url
        return
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    config = settings.engine_config()
    with PopenServer(
        settings.model, settings.device, engine_config=config, enable_debug=enable_debug, port=port
    ) as started:
        yield started.base_url


async def measure(settings: Settings, url: str) -> list[Row]:
    """A row for each concurrency."""
    async with EventClient(url) as session:
        ask = ask_server(session, settings.max_tokens)
        return [await measure_load(ask, settings.workload, clients) for clients in settings.concurrency]


if __name__ == "__main__":
    main()

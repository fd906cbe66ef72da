"""What HTTP costs: the rate of the server as a share of the engine's own, under the same load.

    python -m benchmarks.http_overhead [--shape smollm2-135m] [--concurrency 8]

The share compares runs on one machine minutes apart, so that it means more than the two rates do.
"""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import replace

from benchmarks import online
from benchmarks.report import Row, print_report
from benchmarks.setup import Settings, add_arguments, ask_engine, settings_of, start_engine


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.set_defaults(concurrency=[8])
    settings = settings_of(parser.parse_args())
    rows = [compare(replace(settings, concurrency=[concurrency])) for concurrency in settings.concurrency]
    print_report("http overhead", settings.listing(), rows)


def compare(settings: Settings) -> Row:
    """The rates of one concurrency, and their ratio."""
    engine = asyncio.run(measure_engine(settings))
    with online.server(settings) as url:
        server = asyncio.run(online.measure(settings, url))[0]
    rates = (_rate(server), _rate(engine))
    return {
        "concurrency": settings.concurrency[0],
        "http_tokens_per_s": rates[0],
        "engine_tokens_per_s": rates[1],
        "http_share": rates[0] / rates[1],
    }


async def measure_engine(settings: Settings) -> Row:
    """The same load, without HTTP."""
    engine = start_engine(settings)
    try:
        return await online.measure_load(
            ask_engine(engine, settings.max_tokens), settings, settings.concurrency[0]
        )
    finally:
        engine.terminate()


def _rate(row: Row) -> float:
    return float(str(row["tokens_per_s"]))


if __name__ == "__main__":
    main()

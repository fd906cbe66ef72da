"""What HTTP costs: the rate of the server as a share of the engine's own, under the same load.

    python -m benchmarks.http_overhead [--shape smollm2-135m] [--concurrency 8]

The two take turns, so that whatever else the machine does affects both. Each loads the model.
"""

from __future__ import annotations

import argparse

import uvloop

from benchmarks import online
from benchmarks.report import Row, print_report
from benchmarks.setup import Settings, add_arguments, settings_of, start_engine
from mlc_serve.bench.asking import ask_engine, ask_server
from mlc_serve.bench.closed_loop import Ask, closed_loop, median_of, random_prompts, summary
from mlc_serve.bench.event_client import EventClient
from mlc_serve.bench.measures import WAVES


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.set_defaults(concurrency=[8])
    settings = settings_of(parser.parse_args())
    with online.server(settings) as url:
        rows = uvloop.run(compare(settings, url))
    print_report("http overhead", settings.listing(), rows)


async def compare(settings: Settings, url: str) -> list[Row]:
    """The rates of the engine and of a server, and their ratio, for each concurrency."""
    engine = start_engine(settings)
    try:
        async with EventClient(url) as client:
            asks = (ask_engine(engine, settings.max_tokens), ask_server(client, settings.max_tokens))
            return [await compare_load(*asks, settings, concurrency) for concurrency in settings.concurrency]
    finally:
        engine.terminate()


async def compare_load(engine: Ask, server: Ask, settings: Settings, concurrency: int) -> Row:
    """One run of each after the other, several times; `http_share` is the median of the runs' ratios."""

    async def run(seed: int) -> dict[str, float]:
        prompts = random_prompts(WAVES * concurrency, settings.prompt_tokens, seed)
        alone = summary(await closed_loop(engine, prompts, concurrency))["tokens_per_s"]
        over_http = summary(await closed_loop(server, prompts, concurrency))["tokens_per_s"]
        return {"tokens_per_s": alone, "http_tokens_per_s": over_http, "http_share": over_http / alone}

    return {"concurrency": concurrency, **await median_of(settings.runs, run)}


if __name__ == "__main__":
    main()

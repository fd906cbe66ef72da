"""The engine alone, in this process: prefill and decode rates, time to first token, time between tokens.

python -m benchmarks.offline [--shape smollm2-135m] [--quantization q0f32] [--prefill-tokens 512]
"""

from __future__ import annotations

import argparse
import asyncio
from functools import partial

from benchmarks.report import Row, print_report
from benchmarks.setup import Settings, add_arguments, settings_of, start_engine
from mlc_serve.bench.asking import ask_engine
from mlc_serve.bench.measures import measure_decode, measure_prefill


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument(
        "--prefill-tokens", type=int, default=512, help="length of the prompt whose prefill is timed"
    )
    options = parser.parse_args()
    settings = settings_of(options)
    rows = asyncio.run(measure(settings, options.prefill_tokens))
    print_report("offline", settings.listing(), rows)


async def measure(settings: Settings, prefill_tokens: int) -> list[Row]:
    """A row for prefill, and one for each batch."""
    engine = start_engine(settings)
    try:
        rows = [await measure_prefill(ask_engine(engine, 1), prefill_tokens, settings.runs)]
        ask_for = partial(ask_engine, engine)
        batches = settings.concurrency
        return rows + [await measure_decode(ask_for, settings.workload, batch) for batch in batches]
    finally:
        engine.terminate()


if __name__ == "__main__":
    main()

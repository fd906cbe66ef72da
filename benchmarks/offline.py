"""The engine alone, in this process: prefill and decode rates, time to first token, time between tokens.

python -m benchmarks.offline [--shape smollm2-135m] [--quantization q0f32] [--prefill-tokens 512]
"""

from __future__ import annotations

import argparse
import asyncio

from benchmarks.load import Ask, closed_loop, median_of, random_prompts, steady_rate, summary
from benchmarks.report import Row, print_report
from benchmarks.setup import Settings, add_arguments, ask_engine, settings_of, start_engine
from mlc_serve import AsyncMLCEngine


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
        return rows + [await measure_decode(engine, settings, batch) for batch in settings.concurrency]
    finally:
        engine.terminate()


async def measure_prefill(ask: Ask, length: int, runs: int) -> Row:
    """How fast one prompt is computed up to its first token."""

    async def run(seed: int) -> dict[str, float]:
        records = await closed_loop(ask, random_prompts(1, length, seed), 1)
        figures = summary(records)
        return figures | {"tokens_per_s": 1000 * length / figures["ttft_p50_ms"]}

    return {"measured": f"prefill of {length}", **await median_of(runs, run)}


async def measure_decode(engine: AsyncMLCEngine, settings: Settings, batch: int) -> Row:
    """How fast a batch generates once all of it does. Twice the answer is asked for: while prompts come in
    one after the other, the first answers go on.
    """
    ask = ask_engine(engine, 2 * settings.max_tokens)

    async def run(seed: int) -> dict[str, float]:
        prompts = random_prompts(batch, settings.prompt_tokens, seed)
        records = await closed_loop(ask, prompts, batch)
        return summary(records) | {"tokens_per_s": steady_rate(records)}

    return {"measured": f"decode, batch {batch}", **await median_of(settings.runs, run)}


if __name__ == "__main__":
    main()

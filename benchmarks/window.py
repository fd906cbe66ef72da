"""How fast a model with windows decodes far beyond its window, beside where the window has just filled.

python -m benchmarks.window [--shape mistral-window] [--positions 1024 32000] [--quantization q8f32_1]

One sequence decodes behind prompts of these lengths, which take turns on one engine. `slower_pct` is by how
much a token takes longer than at the first position. A first round, which warms up, doesn't count.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
from collections.abc import Sequence

from benchmarks.report import Row, print_report
from benchmarks.setup import Settings, random_model, start_engine
from benchmarks.shapes import SHAPES
from mlc_serve import AsyncMLCEngine
from mlc_serve.bench.asking import ask_engine
from mlc_serve.bench.closed_loop import closed_loop, random_prompts, steady_rate

WINDOWED = [name for name, shape in SHAPES.items() if shape.window]


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", choices=WINDOWED, default="mistral-window")
    parser.add_argument("--quantization")
    parser.add_argument("--positions", type=int, nargs="+", default=[1024, 32_000])
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    settings = Settings(
        model=str(random_model(options.shape)),
        device="cpu",
        quantization=options.quantization,
        concurrency=(1,),
        prompt_tokens=max(options.positions),
        max_tokens=options.max_tokens,
        runs=options.runs,
    )
    rounds = asyncio.run(measure(settings, options.positions))
    print_report("window", settings.listing(), rows_of(options.positions, rounds))


async def measure(settings: Settings, positions: Sequence[int]) -> list[list[float]]:
    """For each round, tokens a second at each position."""
    engine = start_engine(settings)
    try:
        numbers = range(settings.runs + 1)
        rounds = [
            [await rate_at(engine, position, settings.max_tokens, number) for position in positions]
            for number in numbers
        ]
        return rounds[1:]
    finally:
        engine.terminate()


async def rate_at(engine: AsyncMLCEngine, position: int, max_tokens: int, seed: int) -> float:
    """Tokens a second behind a new prompt of `position` tokens."""
    prompts = random_prompts(1, position, seed)
    return steady_rate(await closed_loop(ask_engine(engine, max_tokens), prompts, 1))


def rows_of(positions: Sequence[int], rounds: Sequence[Sequence[float]]) -> list[Row]:
    """A row for each position."""
    of_positions = list(zip(*rounds, strict=True))
    first = statistics.median(of_positions[0])
    return [
        {
            "position": position,
            "tokens_per_s": statistics.median(rates),
            "least": min(rates),
            "most": max(rates),
            "slower_pct": 100 * (first / statistics.median(rates) - 1),
        }
        for position, rates in zip(positions, of_positions, strict=True)
    ]


if __name__ == "__main__":
    main()

"""What speculation gains and costs: each row compares an engine that drafts with the same engine without.

python -m benchmarks.speculation [--shape llama3.2-1b] [--quantization q8f32_1] [--rate 0.7] [--length 4]

known: one client, for whose greedy answer, which is known before, `--length` tokens are drafted, each wrong
with a probability of 1 - `--rate`.
ngram: `--clients` clients, whose prompts and answers repeat nothing, with adaptive drafts from the texts.

Both sides take turns on one engine. `ratio` is the median of the rounds' ratios of tokens a second, and
`kept` the share of drafts that were kept. A first round, which warms up, doesn't count.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from benchmarks.known_answers import KnownAnswers
from benchmarks.report import Row, print_report
from benchmarks.setup import Settings, add_arguments, settings_of
from benchmarks.switched_lengths import SwitchedLengths
from mlc_serve import AsyncMLCEngine
from mlc_serve.bench.closed_loop import (
    TOKEN_IDS,
    Ask,
    Prompt,
    closed_loop,
    random_prompts,
    steady_rate,
    summary,
)
from mlc_serve.engine.sampling import SamplingParams
from mlc_serve.engine.speculation.adaptive_lengths import AdaptiveLengths
from mlc_serve.engine.speculation.draft_lengths import DraftLengths, FixedLengths
from mlc_serve.engine.speculation.ngram import NGram
from mlc_serve.engine.speculation.proposer import Proposer
from mlc_serve.engine.speculation.speculation import Speculation
from mlc_serve.frontend.params import GenerationParams
from mlc_serve.loaded_model import LoadedModel
from mlc_serve.loading import load_model

WAVES = 2  # requests of each client in a round

# Measures the tokens a second of a round, by its number.
Measure = Callable[[int], Awaitable[float]]


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--rate", type=float, default=0.7, help="the share of known drafts that are right")
    parser.add_argument("--length", type=int, default=4, help="known drafts in a pass")
    parser.set_defaults(shape="llama3.2-1b", concurrency=[32])
    options = parser.parse_args()
    settings = settings_of(options)
    rows = asyncio.run(measure(settings, options.rate, options.length))
    print_report("speculation", settings.listing(), rows)


async def measure(settings: Settings, rate: float, length: int) -> list[Row]:
    """A row for known drafts, and one for each number of clients with ngram."""
    config = replace(settings.engine_config(), model=settings.model)
    model = load_model(config, settings.device, lambda _line: None)
    known = await measure_known(model, settings, rate, length)
    return [known, *[await measure_ngram(model, settings, clients) for clients in settings.concurrency]]


async def measure_known(model: LoadedModel, settings: Settings, rate: float, length: int) -> Row:
    """Compare known drafts with none, for one client."""
    params = SamplingParams(temperature=0.0, max_tokens=2 * settings.max_tokens)
    prompts = random_prompts(settings.runs + 1, settings.prompt_tokens, seed=0)
    known = KnownAnswers(rate)
    engine = _Engine.start(model, known, FixedLengths(length))

    async def rate_of(number: int) -> float:
        return steady_rate(await closed_loop(engine.asking(params), [prompts[number]], 1))

    try:
        for prompt in prompts:
            known.answers[tuple(prompt)] = await engine.answer(prompt, params)
        figures = await engine.compare(settings.runs, rate_of)
    finally:
        engine.own.terminate()
    return {"drafts": f"known, {length} at {rate}", "clients": 1, **figures}


async def measure_ngram(model: LoadedModel, settings: Settings, clients: int) -> Row:
    """Compare adaptive drafts from texts that repeat nothing with none, for several clients."""
    params = SamplingParams(max_tokens=settings.max_tokens)
    engine = _Engine.start(model, NGram(), AdaptiveLengths())

    async def rate_of(number: int) -> float:
        prompts = prompts_without_repetition(WAVES * clients, settings.prompt_tokens, number)
        return summary(await closed_loop(engine.asking(params), prompts, clients))["tokens_per_s"]

    try:
        figures = await engine.compare(settings.runs, rate_of)
    finally:
        engine.own.terminate()
    return {"drafts": "ngram, adaptive", "clients": clients, **figures}


def prompts_without_repetition(count: int, length: int, seed: int) -> list[Prompt]:
    """Prompts in which no token comes twice, as far as there are enough tokens."""
    generator = random.Random(seed)
    return [generator.sample(TOKEN_IDS, min(length, len(TOKEN_IDS))) for _ in range(count)]


class _Engine(NamedTuple):
    """An engine whose speculation can be switched off. No other engine may use its model meanwhile."""

    own: AsyncMLCEngine
    lengths: SwitchedLengths

    @classmethod
    def start(cls, model: LoadedModel, proposer: Proposer, lengths: DraftLengths) -> _Engine:
        """Start it without drafts."""
        switched = SwitchedLengths(lengths)
        speculation = Speculation(proposer, switched)
        return cls(AsyncMLCEngine.from_loaded(replace(model, speculation=speculation)), switched)

    async def compare(self, runs: int, rate_of: Measure) -> dict[str, float]:
        """Measure both sides in turns, of which the one is first in one round and the other in the next."""
        rounds = [await self._round(number, rate_of) for number in range(runs + 1)]
        return figures_of(rounds[1:]) | {"kept": self.lengths.share_kept}

    async def _round(self, number: int, rate_of: Measure) -> Mapping[bool, float]:
        rates = {}
        for is_on in (False, True) if number % 2 else (True, False):
            self.lengths.is_on = is_on
            rates[is_on] = await rate_of(number)
        return rates

    def asking(self, params: SamplingParams) -> Ask:
        """A function that asks for tokens with these parameters."""

        async def ask(prompt: Prompt) -> AsyncIterator[int]:
            async for delta in self.own.generate(prompt, GenerationParams(params)):
                yield len(delta.token_ids)

        return ask

    async def answer(self, prompt: Prompt, params: SamplingParams) -> list[int]:
        """The tokens of an answer."""
        deltas = self.own.generate(prompt, GenerationParams(params))
        return [token async for delta in deltas for token in delta.token_ids]


def figures_of(rounds: Sequence[Mapping[bool, float]]) -> dict[str, float]:
    """Medians of rounds, of which each has the rate with drafts (True) and without."""
    return {
        "tokens_per_s": statistics.median(rates[True] for rates in rounds),
        "without": statistics.median(rates[False] for rates in rounds),
        "ratio": statistics.median(rates[True] / rates[False] for rates in rounds),
    }


if __name__ == "__main__":
    main()

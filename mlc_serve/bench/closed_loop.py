"""Closed-loop load and its measurement. Knows neither engine nor HTTP: it is given a function that asks.

TTFT   request sent -> first tokens
ITL    gap between successive arrivals of tokens, over all requests
rate   tokens of all requests / time from the first request to the end of the last
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

Prompt = Sequence[int]
# Sends a prompt; yields the number of tokens of each arrival.
Ask = Callable[[Prompt], AsyncIterator[int]]
# Makes an Ask for so many tokens.
AskFor = Callable[[int], Ask]

# Ids that are plain text in every vocabulary, never special tokens.
TOKEN_IDS = range(10, 250)


class NoMeasureError(RuntimeError):
    """The replies can't be measured."""


@dataclass
class Record:
    """One request: when it was sent, and each arrival's time and number of tokens. Times are in seconds of
    time.perf_counter().
    """

    sent: float
    arrivals: list[tuple[float, int]] = field(default_factory=list)

    @property
    def num_tokens(self) -> int:
        """Tokens that arrived."""
        return sum(count for _, count in self.arrivals)

    @property
    def first(self) -> float:
        """When the first tokens arrived."""
        return self.arrivals[0][0]

    @property
    def last(self) -> float:
        """When the last tokens arrived."""
        return self.arrivals[-1][0]

    @property
    def waits(self) -> list[tuple[float, float]]:
        """When each wait between successive arrivals began and ended."""
        return list(pairwise(at for at, _ in self.arrivals))

    @property
    def gaps(self) -> list[float]:
        """Seconds between successive arrivals."""
        return [end - start for start, end in self.waits]


def random_prompts(count: int, length: int, seed: int) -> list[Prompt]:
    """Prompts that share no prefix worth caching."""
    generator = random.Random(seed)
    return [[generator.choice(TOKEN_IDS) for _ in range(length)] for _ in range(count)]


async def closed_loop(ask: Ask, prompts: Sequence[Prompt], concurrency: int) -> list[Record]:
    """Keep `concurrency` requests running until all prompts are answered."""
    waiting = list(prompts)
    records: list[Record] = []

    async def worker() -> None:
        while waiting:
            records.append(await _one(ask, waiting.pop()))

    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return records


async def _one(ask: Ask, prompt: Prompt) -> Record:
    record = Record(time.perf_counter())
    async for count in ask(prompt):
        if count:
            record.arrivals.append((time.perf_counter(), count))
    if not record.arrivals:
        raise NoMeasureError("the reply to a request has no tokens")
    return record


def summary(records: Sequence[Record]) -> dict[str, float]:
    """The figures of one run: times in milliseconds, rates in tokens per second."""
    ttft = [record.first - record.sent for record in records]
    gaps = [gap for record in records for gap in record.gaps] or [0.0]
    wall = max(record.last for record in records) - min(record.sent for record in records)
    return {
        "tokens_per_s": sum(record.num_tokens for record in records) / wall,
        "ttft_p50_ms": 1000 * statistics.median(ttft),
        "ttft_p95_ms": 1000 * percentile(ttft, 95),
        "itl_p50_ms": 1000 * statistics.median(gaps),
        "itl_p95_ms": 1000 * percentile(gaps, 95),
    }


def steady_rate(records: Sequence[Record]) -> float:
    """Tokens per second while all requests decode: from the last first token to the first end."""
    start = max(record.first for record in records)
    end = min(record.last for record in records)
    if end <= start:
        raise NoMeasureError("the requests never all ran at once: ask for more tokens")
    counts = (count for record in records for at, count in record.arrivals if start < at <= end)
    return sum(counts) / (end - start)


def tokens_per_step(records: Sequence[Record]) -> float:
    """Tokens of an arrival on average, if each arrival is what one step gave a request. The first ones don't
    count: they come with the prefill.
    """
    return statistics.fmean(count for record in records for _, count in record.arrivals[1:])


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which `percent` of the values lie, by the nearest rank."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)]


async def median_of(runs: int, measure: Callable[[int], Awaitable[dict[str, float]]]) -> dict[str, float]:
    """The median of each figure over `runs` runs, after a warm-up run. `measure` is called with a seed."""
    await measure(0)
    results = [await measure(1 + index) for index in range(runs)]
    figures = {name: statistics.median(result[name] for result in results) for name in results[0]}
    rates = [result["tokens_per_s"] for result in results]
    return figures | {"spread": (max(rates) - min(rates)) / max(rates)}

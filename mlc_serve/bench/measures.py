"""Measures prefill and decode of an engine, and the load of a number of clients. Each measurement is a row of
figures by name: rates in tokens per second, times in milliseconds, each the median of several runs.
"""

from __future__ import annotations

from collections.abc import Mapping

from mlc_serve.bench.closed_loop import (
    Ask,
    AskFor,
    closed_loop,
    median_of,
    random_prompts,
    steady_rate,
    summary,
    tokens_per_step,
)
from mlc_serve.config import Workload

Row = Mapping[str, object]

# How many requests each client sends in one run.
WAVES = 3


async def measure_prefill(ask: Ask, length: int, runs: int) -> Row:
    """Measure how fast one prompt is prefilled, by the time to its first token."""

    async def run(seed: int) -> dict[str, float]:
        records = await closed_loop(ask, random_prompts(1, length, seed), 1)
        figures = summary(records)
        return figures | {"tokens_per_s": 1000 * length / figures["ttft_p50_ms"]}

    return {"measured": f"prefill of {length}", **await median_of(runs, run)}


async def measure_decode(ask_for: AskFor, workload: Workload, batch: int, *, drafts: bool = False) -> Row:
    """Measure how fast a batch decodes while all its sequences do. Requests ask for twice `max_tokens`, since
    the first ones already decode while later prompts are prefilled. If the engine `drafts`, the row has the
    tokens that a step gives a request.
    """
    ask = ask_for(2 * workload.max_tokens)

    async def run(seed: int) -> dict[str, float]:
        prompts = random_prompts(batch, workload.prompt_tokens, seed)
        records = await closed_loop(ask, prompts, batch)
        steps = {"tokens_per_step": tokens_per_step(records)} if drafts else {}
        return summary(records) | {"tokens_per_s": steady_rate(records)} | steps

    return {"measured": f"decode, batch {batch}", **await median_of(workload.runs, run)}


async def measure_load(ask: Ask, workload: Workload, concurrency: int) -> Row:
    """Measure what clients see if each of them sends a request as soon as its last one is answered."""

    async def run(seed: int) -> dict[str, float]:
        prompts = random_prompts(WAVES * concurrency, workload.prompt_tokens, seed)
        return summary(await closed_loop(ask, prompts, concurrency))

    return {"concurrency": concurrency, **await median_of(workload.runs, run)}

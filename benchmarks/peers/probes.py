"""How large requests affect others on a server. Two probes send requests through a function.

The first sends a long prompt beside running streams. It divides the longest gap of the streams before the
prompt's first token by the median of all their gaps.
The second sends a short prompt right behind a burst, and measures its time to the first token.
"""

from __future__ import annotations

import asyncio
import statistics
import time

from mlc_serve.bench.closed_loop import Ask, AskFor, Prompt, Record, random_prompts

STREAMS, STREAM_PROMPT, STREAM_ANSWER = 7, 32, 200
# Tokens that each stream has received when the long prompt is sent.
UNDER_WAY = 20
LONG_PROMPT = 900
BURST, BURST_PROMPT, BURST_ANSWER = 32, 128, 64
SHORT_PROMPT, SHORT_ANSWER = 4, 4
# How long after the burst the short prompt is sent: the server has read the burst by then.
BURST_SECONDS = 0.1


async def probe_both(ask_for: AskFor, seed: int) -> dict[str, float]:
    """Run both probes, one after the other, and return their figures."""
    return {**await longest_gap(ask_for, seed), **await behind_a_burst(ask_for, seed)}


async def longest_gap(ask_for: AskFor, seed: int) -> dict[str, float]:
    """Measure for how long running streams stop for a long prompt."""
    running = [asyncio.Event() for _ in range(STREAMS)]
    prompts = random_prompts(STREAMS, STREAM_PROMPT, seed)
    streams = [
        asyncio.create_task(follow(ask_for(STREAM_ANSWER), prompt, event))
        for prompt, event in zip(prompts, running, strict=True)
    ]
    await asyncio.gather(*(event.wait() for event in running))
    (long_prompt,) = random_prompts(1, LONG_PROMPT, seed)
    late = await follow(ask_for(SHORT_ANSWER), long_prompt, asyncio.Event())
    records = await asyncio.gather(*streams)
    normal = statistics.median(gap for record in records for gap in record.gaps)
    longest = max(gap for record in records for gap in gaps_during(record, late.sent, late.first))
    return {
        "long_ttft_ms": 1000 * (late.first - late.sent),
        "longest_gap_ms": 1000 * longest,
        "longest_to_median_gap": longest / normal,
    }


async def behind_a_burst(ask_for: AskFor, seed: int) -> dict[str, float]:
    """Measure how long a short prompt waits behind many that were sent just before."""
    prompts = random_prompts(BURST, BURST_PROMPT, seed)
    burst = [
        asyncio.create_task(follow(ask_for(BURST_ANSWER), prompt, asyncio.Event())) for prompt in prompts
    ]
    await asyncio.sleep(BURST_SECONDS)
    (short,) = random_prompts(1, SHORT_PROMPT, seed)
    record = await follow(ask_for(SHORT_ANSWER), short, asyncio.Event())
    await asyncio.gather(*burst)
    return {"short_ttft_ms": 1000 * (record.first - record.sent)}


def gaps_during(record: Record, start: float, end: float) -> list[float]:
    """Seconds between successive arrivals, for all gaps that overlap the time from `start` to `end`."""
    return [after - before for before, after in record.waits if before < end and after > start]


async def follow(ask: Ask, prompt: Prompt, under_way: asyncio.Event) -> Record:
    """Read a stream to its end. Sets the event once UNDER_WAY tokens have arrived, or at the end."""
    record = Record(time.perf_counter())
    try:
        async for count in ask(prompt):
            if count:
                record.arrivals.append((time.perf_counter(), count))
            if record.num_tokens >= UNDER_WAY:
                under_way.set()
    finally:
        under_way.set()
    return record

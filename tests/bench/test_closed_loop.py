"""The load generator keeps its concurrency, and its figures are what the records say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from mlc_serve.bench.asking import tokens_in
from mlc_serve.bench.closed_loop import (
    Prompt,
    Record,
    closed_loop,
    median_of,
    percentile,
    random_prompts,
    steady_rate,
    summary,
    tokens_per_step,
)


def record(sent: float, *times: float) -> Record:
    """A request with one token at each time."""
    return Record(sent, [(at, 1) for at in times])


async def test_as_many_requests_are_under_way_as_asked_for() -> None:
    """As many requests run at once as the concurrency says, never more, and every prompt is answered once."""
    running, most, asked = 0, 0, []

    async def ask(prompt: Prompt) -> AsyncIterator[int]:
        nonlocal running, most
        running, most = running + 1, max(most, running + 1)
        asked.append(prompt)
        await asyncio.sleep(0)
        yield 1
        running -= 1

    prompts = random_prompts(7, 3, seed=1)
    records = await closed_loop(ask, prompts, 3)
    assert most == 3
    assert sorted(map(tuple, asked)) == sorted(map(tuple, prompts))
    assert [entry.num_tokens for entry in records] == [1] * 7


async def test_a_request_without_tokens_stops_the_measurement() -> None:
    """A server that answers with nothing is not measured as infinitely fast."""

    async def ask(_prompt: Prompt) -> AsyncIterator[int]:
        yield 0

    with pytest.raises(RuntimeError, match="no tokens"):
        await closed_loop(ask, [[1]], 1)


def test_prompts_are_seeded_and_differ() -> None:
    """The same seed gives the same prompts; prompts of a run differ from each other and from another's."""
    assert random_prompts(2, 20, seed=1) == random_prompts(2, 20, seed=1)
    assert len({tuple(prompt) for seed in (1, 2) for prompt in random_prompts(3, 20, seed)}) == 6


def test_summary() -> None:
    """It has the rate over the whole run, the times to the first token, and the gaps over all requests."""
    figures = summary([record(0.0, 1.0, 1.5, 2.0), record(0.0, 2.0, 3.0, 4.0)])
    assert figures["tokens_per_s"] == 6 / 4
    assert figures["ttft_p50_ms"] == 1500
    assert figures["itl_p50_ms"] == 750
    assert figures["itl_p95_ms"] == 1000


def test_the_steady_rate_counts_only_while_all_run() -> None:
    """Tokens count from the time when the last request has begun until the first one ends."""
    assert steady_rate([record(0.0, 1.0, 2.0, 3.0, 4.0), record(0.0, 2.0, 3.0, 4.0, 5.0)]) == 4 / 2


def test_requests_that_never_overlap_have_no_steady_rate() -> None:
    """A wave whose first request ends before its last begins is refused."""
    with pytest.raises(RuntimeError, match="never all ran at once"):
        steady_rate([record(0.0, 1.0, 2.0), record(0.0, 3.0, 4.0)])


def test_tokens_of_a_step_leave_out_the_first_ones() -> None:
    """The average is over all later arrivals of all requests."""
    assert tokens_per_step([Record(0.0, [(1.0, 1), (2.0, 4), (3.0, 2)]), record(0.0, 1.0, 2.0)]) == 7 / 3


def test_percentile_is_a_value_that_was_seen() -> None:
    """It is the nearest rank, up to the last value."""
    assert percentile([3.0, 1.0, 2.0], 100) == 3.0
    assert percentile(list(map(float, range(100))), 95) == 95.0


async def test_the_median_leaves_out_the_first_run() -> None:
    """A warm-up run counts for nothing, and the spread is reported."""
    rates = iter([999.0, 10.0, 8.0, 9.0])

    async def measure(_seed: int) -> dict[str, float]:
        return {"tokens_per_s": next(rates)}

    assert await median_of(3, measure) == {"tokens_per_s": 9.0, "spread": pytest.approx(0.2)}


@pytest.mark.parametrize(
    ("line", "counted", "tokens"),
    [
        ("", 0, 0),
        (": ping", 0, 0),
        ("data: [DONE]", 5, 0),
        ('data: {"choices": [{"text": "a"}]}', 0, 1),
        ('data: {"choices": [{"text": "", "finish_reason": "length"}]}', 3, 0),
        ('data: {"choices": [], "usage": {"completion_tokens": 8}}', 6, 2),
    ],
)
def test_tokens_of_a_stream_are_counted(line: str, counted: int, tokens: int) -> None:
    """A chunk with text counts as one token; usage adds the tokens that chunks did not show."""
    assert tokens_in(line, counted) == tokens


def test_an_error_in_a_stream_stops_the_measurement() -> None:
    """An error event is not counted as an answer."""
    with pytest.raises(RuntimeError, match="overloaded"):
        tokens_in('data: {"error": {"message": "overloaded"}}', 0)

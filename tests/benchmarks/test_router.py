"""The router's benchmark: its conversations and its figures. The servers are not started."""

from __future__ import annotations

from itertools import pairwise

import pytest

from benchmarks.router import ONE, PREFIX, Chats, differences, share_rows

CHATS = Chats(conversations=6, turns=3, system_tokens=8, turn_tokens=4)


def test_conversations_grow_turn_by_turn() -> None:
    """Each turn's prompts begin with those of the turn before, and groups share a system prompt."""
    turns = list(CHATS.prompts(seed=1))
    assert [len(prompts) for prompts in turns] == [6, 6, 6]
    assert [len(prompts[0]) for prompts in turns] == [12, 16, 20]
    for earlier, later in pairwise(turns):
        assert {tuple(prompt) for prompt in earlier} == {tuple(prompt)[:-4] for prompt in later}
    assert len({tuple(prompt)[:8] for prompt in turns[0]}) == 2
    assert CHATS.num_cached == 6 * 20
    assert turns == list(CHATS.prompts(seed=1)) != list(CHATS.prompts(seed=2))


def test_shares_are_compared_run_by_run() -> None:
    """The median of the ratios, and not the ratio of the medians."""
    one, router = share_rows({ONE: [0.8, 0.5, 0.4], PREFIX: [0.4, 0.5, 0.3]})
    assert (one["hit_share"], one["of_one"]) == (0.5, 1.0)
    assert router["hit_share"] == 0.4
    assert router["of_one"] == pytest.approx(0.75)


def test_costs_are_compared_run_by_run() -> None:
    """Rates are divided, and times subtracted, within a run."""
    runs: list[dict[str, dict[str, float]]] = [
        {
            "direct": {"tokens_per_s": 100 * scale, "ttft_p50_ms": 10 * scale, "ttft_outside_ms": scale},
            "routed": {"tokens_per_s": 96 * scale, "ttft_p50_ms": 30, "ttft_outside_ms": scale + 1.5},
        }
        for scale in (1, 3, 2)
    ]
    found = differences(runs)
    assert (found["direct_tokens_per_s"], found["ttft_p50_ms"]) == (200, 20)
    assert found["rate_ratio"] == pytest.approx(0.96)
    assert found["ttft_more_ms"] == pytest.approx(1.5)

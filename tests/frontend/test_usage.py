"""Usage."""

from __future__ import annotations

from mlc_serve.frontend.choice import TextDelta
from mlc_serve.frontend.usage import UsageCount


def test_prompts_count_once_and_outputs_all() -> None:
    """With two prompts of two choices, each prompt counts once, and cached is what its first choice found."""
    count = UsageCount([[1, 2, 3], [4, 5]], n=2)
    for index, num_cached in enumerate([2, 3, 0, 2]):
        count.add(TextDelta(index, token_ids=(7,), num_cached_tokens=num_cached))
        count.add(TextDelta(index, token_ids=(7, 8), num_cached_tokens=num_cached))
    usage = count.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (5, 12, 17)
    assert usage.prompt_tokens_details.cached_tokens == 2

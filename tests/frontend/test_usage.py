"""Usage."""

from __future__ import annotations

from mlc_serve.engine.request import FinishReason
from mlc_serve.engine.speculation.draft_totals import DraftTotals
from mlc_serve.frontend.choice import TextDelta
from mlc_serve.frontend.usage import UsageCount
from mlc_serve.protocol.replies import UsageExtra


def test_prompts_count_once_and_outputs_all() -> None:
    """With two prompts of two choices, each prompt counts once, and cached is what its first choice found."""
    count = UsageCount([[1, 2, 3], [4, 5]], n=2)
    for index, num_cached in enumerate([2, 3, 0, 2]):
        count.add(TextDelta(index, token_ids=(7,), num_cached_tokens=num_cached))
        count.add(TextDelta(index, token_ids=(7, 8), num_cached_tokens=num_cached))
    usage = count.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (5, 12, 17)
    assert usage.prompt_tokens_details.cached_tokens == 2


def test_drafts_of_all_choices_are_added_if_told() -> None:
    """The latest totals of each choice count. What is not told is not null, but not there."""
    silent, telling = (UsageCount([[1]], n=2, tells_drafts=tells) for tells in (False, True))
    for count in (silent, telling):
        count.add(TextDelta(0, token_ids=(7, 8), drafts=DraftTotals(1, 3, 1)))
        count.add(TextDelta(0, token_ids=(7, 8, 9), drafts=DraftTotals(2, 6, 3)))
        count.add(TextDelta(1, token_ids=(7,), drafts=DraftTotals(1, 2, 0)))
        count.add(TextDelta(1, finish_reason=FinishReason.ABORT))
    assert "extra" not in silent.usage.to_json()
    assert telling.usage.extra == UsageExtra(
        num_spec_steps=3,
        num_draft_tokens=8,
        num_accepted_draft_tokens=3,
        mean_acceptance_length=2.0,
        draft_acceptance_rate=0.375,
    )


def test_a_request_without_drafts_has_no_averages() -> None:
    """They are null, since there is nothing to divide by."""
    usage = UsageCount([[1]], n=1, tells_drafts=True).usage
    assert usage.extra is not None
    assert usage.extra.num_spec_steps == 0
    assert usage.extra.mean_acceptance_length is usage.extra.draft_acceptance_rate is None

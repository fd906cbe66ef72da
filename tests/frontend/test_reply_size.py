"""How long whole replies get."""

from __future__ import annotations

import pytest

from mlc_serve.engine.sampling import SamplingParams
from mlc_serve.errors import InvalidRequestError
from mlc_serve.frontend.reply_size import MAX_KEPT, bounded, checked_size, num_per_token


def test_choices_and_logprobs_share_the_place() -> None:
    """More of either leaves fewer tokens for each choice, and the requested limit is never exceeded."""
    assert bounded(SamplingParams(), 1).max_tokens == MAX_KEPT
    assert bounded(SamplingParams(max_tokens=10), 1).max_tokens == 10
    assert bounded(SamplingParams(num_top_logprobs=20), 16).max_tokens == MAX_KEPT // (16 * 22)
    assert bounded(SamplingParams(), 1, MAX_KEPT).max_tokens == 1


def test_prompts_with_too_many_logprobs_are_refused() -> None:
    """A reply has room for less than all, and what nobody asked for takes none."""
    assert (num_per_token(None), num_per_token(0), num_per_token(2)) == (0, 1, 3)
    assert checked_size(MAX_KEPT - 1, "logprobs") == MAX_KEPT - 1
    with pytest.raises(InvalidRequestError, match="fewer prompts") as caught:
        checked_size(MAX_KEPT, "logprobs")
    assert caught.value.param == "logprobs"

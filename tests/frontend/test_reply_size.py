"""How long whole replies get."""

from __future__ import annotations

import pytest

from mlc_serve.engine.sampling import SamplingParams
from mlc_serve.errors import InvalidRequestError
from mlc_serve.frontend.reply_size import MAX_KEPT, bounded, prompt_logprobs


def test_choices_and_logprobs_share_the_place() -> None:
    """More of either leaves fewer tokens for each choice, and the requested limit is never exceeded."""
    assert bounded(SamplingParams(), 1).max_tokens == MAX_KEPT
    assert bounded(SamplingParams(max_tokens=10), 1).max_tokens == 10
    assert bounded(SamplingParams(num_top_logprobs=20), 16).max_tokens == MAX_KEPT // (16 * 22)
    assert bounded(SamplingParams(), 1, MAX_KEPT).max_tokens == 1


def test_prompts_with_too_many_logprobs_are_refused() -> None:
    """The prompts' logprobs take part of the space, but only if they were asked for."""
    prompts = [range(2**15)] * 16
    asked = SamplingParams(num_top_logprobs=1, prompt_logprobs=True)
    assert prompt_logprobs(asked, prompts, 1) == 2**20
    assert prompt_logprobs(SamplingParams(num_top_logprobs=1), prompts, 1) == 0
    with pytest.raises(InvalidRequestError, match="fewer prompts") as caught:
        prompt_logprobs(asked, prompts, 2)
    assert caught.value.param == "logprobs"

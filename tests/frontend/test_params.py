"""From request fields and a model's defaults to generation parameters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mlc_serve.errors import ContextLengthError, InvalidRequestError
from mlc_serve.frontend.params import (
    GenerationParams,
    cache_namespace,
    check_prompt,
    reasoning_limit,
    sampling_params,
    seed,
)
from mlc_serve.loaded_model import GenerationDefaults
from mlc_serve.protocol.openai import ChatCompletionRequest, CompletionRequest
from mlc_serve.testing import EOS_ID, IM_END_ID, VOCAB_SIZE, fake_model
from mlc_serve.text.answer_form import AnswerForm
from mlc_serve.text.reasoning import REASONING

DEFAULTS = GenerationDefaults(
    temperature=0.6, top_p=0.9, top_k=20, min_p=0.1, repetition_penalty=1.1, eos_token_ids=frozenset({EOS_ID})
)
MODEL = replace(fake_model(), defaults=DEFAULTS)


def request(**fields: Any) -> CompletionRequest:
    """A completion request with these fields."""
    return CompletionRequest.model_validate({"prompt": "a", **fields})


def test_defaults_hold_where_the_request_is_silent() -> None:
    """The model's own sampling values are used."""
    params = sampling_params(request(), MODEL)
    taken = (params.temperature, params.top_p, params.top_k, params.min_p, params.repetition_penalty)
    assert taken == (0.6, 0.9, 20, 0.1, 1.1)
    assert params.max_tokens is None


def test_zero_in_a_request_is_not_silence() -> None:
    """Temperature 0 is greedy, whatever the default."""
    params = sampling_params(request(temperature=0, min_p=0), MODEL)
    assert (params.temperature, params.min_p) == (0, 0)


@pytest.mark.parametrize(("sent", "kept"), [(0, None), (-1, None), (5, 5), (VOCAB_SIZE, None), (10**9, None)])
def test_top_k_that_keeps_everything_is_none(sent: int, kept: int | None) -> None:
    """All ways to switch it off become one."""
    assert sampling_params(request(top_k=sent), MODEL).top_k == kept


def test_stop_tokens_are_the_models_and_the_clients() -> None:
    """Both end the reply."""
    assert sampling_params(request(stop_token_ids=[7]), MODEL).stop_token_ids == {7, EOS_ID}


@pytest.mark.parametrize("wish", [{"ignore_eos": True}, {"debug_config": {"ignore_eos": True}}])
def test_ignore_eos_leaves_the_clients_stop_tokens(wish: dict[str, Any]) -> None:
    """Only the model's own end tokens are ignored."""
    assert sampling_params(request(stop_token_ids=[IM_END_ID], **wish), MODEL).stop_token_ids == {IM_END_ID}


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"logit_bias": {str(VOCAB_SIZE): 1}}, "logit_bias"), ({"logit_bias": {"-1": 1}}, "logit_bias"),
     ({"stop_token_ids": [VOCAB_SIZE]}, "stop_token_ids")],
)  # fmt: skip
def test_ids_outside_of_the_vocabulary_are_refused(fields: dict[str, Any], param: str) -> None:
    """They would be beyond the end of the logits."""
    with pytest.raises(InvalidRequestError, match=f"vocabulary of {VOCAB_SIZE}") as caught:
        sampling_params(request(**fields), MODEL)
    assert caught.value.param == param


def test_every_token_can_not_be_an_end_before_min_tokens() -> None:
    """No token could be sampled; without min_tokens the first token ends the reply."""
    every = list(range(VOCAB_SIZE))
    with pytest.raises(InvalidRequestError, match="every token of the model is an end token") as caught:
        sampling_params(request(stop_token_ids=every, min_tokens=1, max_tokens=2), MODEL)
    assert caught.value.param == "stop_token_ids"
    assert len(sampling_params(request(stop_token_ids=every), MODEL).stop_token_ids) == VOCAB_SIZE
    sampling_params(request(stop_token_ids=every[1:], min_tokens=1, ignore_eos=True), MODEL)


@pytest.mark.parametrize("prompt_ids", [[], [VOCAB_SIZE], [-1]])
def test_prompts_without_or_with_unknown_tokens_are_refused(prompt_ids: list[int]) -> None:
    """The error names the prompt."""
    with pytest.raises(InvalidRequestError) as caught:
        check_prompt(prompt_ids, MODEL, "prompt")
    assert caught.value.param == "prompt"


def test_longest_prompt_leaves_room_for_one_token() -> None:
    """A prompt with one more token is refused, and the error has both numbers."""
    model = fake_model(max_single_sequence_length=8)
    check_prompt([1] * 7, model, "prompt")
    with pytest.raises(ContextLengthError, match=r"maximum context length is 8 tokens.* prompt has 8 tokens"):
        check_prompt([1] * 8, model, "prompt")


def test_choices_have_seeds_of_their_own() -> None:
    """Choice i has seed + i, within 64 bits."""
    params = GenerationParams(seed=2**64 - 1, n=2)
    assert [params.seed_of(0), params.seed_of(1)] == [2**64 - 1, 0]
    assert GenerationParams(seed=-1).seed_of(0) == 2**64 - 1


def test_seed_is_random_only_if_absent() -> None:
    """Zero is a valid seed."""
    assert seed(request(seed=0)) == 0
    assert seed(request()) != seed(request())


def test_namespaces_differ_by_owner_and_by_salt() -> None:
    """Each pair has its own, of bounded length; requests with neither share the common one."""
    plain, salted = CompletionRequest(prompt=["a"]), CompletionRequest(prompt=["a"], cache_salt="s" * 10**6)
    named = {
        cache_namespace(request, owner) for request in (plain, salted) for owner in ("", "key 0", "key 1")
    }
    assert len(named) == 6
    assert max(map(len, named)) <= 64
    assert cache_namespace(plain, "") == ""


def test_a_limit_on_reasoning_needs_a_model_that_reasons() -> None:
    """The engine is told the marks, and whether the prompt has opened the reasoning."""
    messages = [{"role": "user", "content": "hi"}]
    limited = ChatCompletionRequest.model_validate({"messages": messages, "thinking_token_budget": 7})
    unlimited = ChatCompletionRequest.model_validate({"messages": messages})
    thinking = replace(fake_model(), answers=AnswerForm(reasoning=REASONING["think"]))
    found = reasoning_limit(limited, thinking, is_open=True)
    assert found is not None
    assert (found.max_tokens, found.begin, found.end, found.is_open) == (7, "<think>", "</think>", True)
    assert bytes(found.end_ids) == b"</think>"
    assert reasoning_limit(unlimited, thinking, is_open=True) is None
    assert reasoning_limit(limited, fake_model(), is_open=False) is None

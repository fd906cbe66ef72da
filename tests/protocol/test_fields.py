"""Unknown, absent and inert fields."""

from __future__ import annotations

from typing import Any

import pytest

from mlc_serve.errors import InvalidRequestError, RequestError
from mlc_serve.protocol.errors import validated
from mlc_serve.protocol.fields import INERT_FIELDS, MAX_STOP_STRINGS
from mlc_serve.protocol.openai import ChatCompletionRequest, CompletionRequest

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}

INERT_VALUES: dict[str, Any] = {
    "user": "ann",
    "safety_identifier": "x",
    "metadata": {"a": "b"},
    "store": False,
    "service_tier": "auto",
    "prompt_cache_key": "k",
    "prompt_cache_retention": "24h",
    "parallel_tool_calls": True,
    "modalities": ["text"],
}


@pytest.mark.parametrize("name", ["frequency_penality", "functions", "best"])
def test_unknown_field_is_refused_by_name(name: str) -> None:
    """A field that no one declared is an error that names it."""
    with pytest.raises(InvalidRequestError, match=name) as caught:
        validated(ChatCompletionRequest, {**CHAT, name: 1})
    assert caught.value.param == name


def test_unknown_field_of_a_part_is_refused_with_its_path() -> None:
    """Within messages as well, and the path leads to it."""
    messages = [{"role": "user", "content": "hi", "mood": "good"}]
    with pytest.raises(InvalidRequestError) as caught:
        validated(ChatCompletionRequest, {"messages": messages})
    assert caught.value.param == "messages.0.mood"


def test_null_asks_for_nothing() -> None:
    """Null is as good as absent, for fields that are known and for those that aren't."""
    request = validated(ChatCompletionRequest, {**CHAT, "n": None, "stop": None, "audio": None})
    assert (request.n, request.stop) == (1, [])


def test_every_inert_field_is_let_through() -> None:
    """The listed fields change nothing, and each of the list is covered here."""
    assert INERT_VALUES.keys() == INERT_FIELDS.keys()
    assert validated(ChatCompletionRequest, {**CHAT, **INERT_VALUES}) == validated(
        ChatCompletionRequest, CHAT
    )


@pytest.mark.parametrize(
    ("name", "value"), [("store", True), ("parallel_tool_calls", False), ("modalities", ["audio"])]
)
def test_inert_field_with_a_wish_that_is_not_met_is_refused(name: str, value: object) -> None:
    """Some fields have only one value that changes nothing."""
    with pytest.raises(RequestError) as caught:
        validated(ChatCompletionRequest, {**CHAT, name: value})
    assert caught.value.param == name


def test_stop_may_be_one_string() -> None:
    """A single string is a list of one."""
    assert validated(CompletionRequest, {"prompt": "a", "stop": "\n"}).stop == ["\n"]


@pytest.mark.parametrize("stop", ["", [""], ["x"] * (MAX_STOP_STRINGS + 1), ["x"] * 1000, [1], 5])
def test_stop_strings_are_few_and_not_empty(stop: object) -> None:
    """Empty, too many or no strings are refused."""
    with pytest.raises(InvalidRequestError) as caught:
        validated(CompletionRequest, {"prompt": "a", "stop": stop})
    assert str(caught.value.param).startswith("stop")


def test_logit_bias_keys_are_token_ids() -> None:
    """JSON has string keys; they become integers."""
    assert validated(CompletionRequest, {"prompt": "a", "logit_bias": {"7": -3}}).logit_bias == {7: -3.0}


@pytest.mark.parametrize(
    "bias", [{"a": 1}, {1.5: 1}, {"1": 100.5}, {"1": -101}, {"1": "x"}, {"1": float("nan")}, [1]]
)
def test_bad_logit_bias_is_refused(bias: object) -> None:
    """Keys that are no ids and values beyond 100 are refused."""
    with pytest.raises(InvalidRequestError) as caught:
        validated(CompletionRequest, {"prompt": "a", "logit_bias": bias})
    assert str(caught.value.param).startswith("logit_bias")


@pytest.mark.parametrize("name", ["model", "suffix", "stop"])
def test_half_of_a_surrogate_pair_is_no_text(name: str) -> None:
    """What a reply repeats or a text is searched for must be text."""
    with pytest.raises(InvalidRequestError) as caught:
        validated(CompletionRequest, {"prompt": "a", name: "\ud800"})
    assert str(caught.value.param).startswith(name)

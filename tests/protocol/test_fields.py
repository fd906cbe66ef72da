"""The forms of values that clients send."""

from __future__ import annotations

import pytest

from mlc_serve.errors import InvalidRequestError
from mlc_serve.protocol.errors import validated
from mlc_serve.protocol.fields import MAX_STOP_STRINGS
from mlc_serve.protocol.messages import FunctionDefinition
from mlc_serve.protocol.openai import CompletionRequest


def completion(**fields: object) -> CompletionRequest:
    """A completion request with these fields."""
    return validated(CompletionRequest, {"prompt": "a", **fields})


@pytest.mark.parametrize(
    ("stop", "strings"),
    [("\n", ["\n"]), ("", []), (["a", ""], ["a"]), ([], []), (("a", "b"), ["a", "b"])],
)
def test_forms_of_stop(stop: object, strings: list[str]) -> None:
    """A single string is a list of one, and an empty string is an empty list."""
    assert completion(stop=stop).stop == strings


@pytest.mark.parametrize("stop", [["x"] * (MAX_STOP_STRINGS + 1), ["x"] * 1000, [1], 5])
def test_stop_strings_are_few(stop: object) -> None:
    """Too many or no strings are refused."""
    with pytest.raises(InvalidRequestError) as caught:
        completion(stop=stop)
    assert str(caught.value.param).startswith("stop")


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_minus_one_is_no_limit(name: str) -> None:
    """Clients of other servers send it for no limit."""
    assert completion(**{name: -1}).token_limit is None


@pytest.mark.parametrize("name", ["max_tokens", "n", "top_k", "seed", "min_tokens", "logprobs", "best_of"])
def test_a_whole_number_may_be_written_with_a_point(name: str) -> None:
    """Languages without integers write 1.0; 1.5 and true are not integers."""
    value = getattr(completion(**{name: 1.0, "max_tokens": 1.0}), name)
    assert (value, type(value)) == (1, int)
    for wrong in (1.5, float("inf"), True):
        with pytest.raises(InvalidRequestError):
            completion(**{name: wrong})


def test_top_p_of_nothing_keeps_one_token() -> None:
    """No share is smaller than that of the likeliest token."""
    top_p = completion(top_p=0).top_p
    assert top_p is not None
    assert 0 < top_p < 1e-5


def test_logit_bias_keys_are_token_ids() -> None:
    """JSON has string keys; they become integers."""
    assert completion(logit_bias={"7": -3}).logit_bias == {7: -3.0}


def test_an_empty_list_is_an_empty_object() -> None:
    """PHP can't distinguish the two; a list that is not empty is not an object."""
    assert completion(logit_bias=[]).logit_bias == {}
    function = {"name": "f", "parameters": []}
    assert validated(FunctionDefinition, function).parameters == {}
    with pytest.raises(InvalidRequestError):
        validated(FunctionDefinition, {"name": "f", "parameters": [1]})


@pytest.mark.parametrize(
    "bias",
    [{"a": 1}, {1.5: 1}, {"1": 100.5}, {"1": -101}, {"1": "x"}, {"1": float("nan")}, {"1": True}, [1], "x"],
)
def test_bad_logit_bias_is_refused(bias: object) -> None:
    """Keys that are not ids and values beyond 100 are refused."""
    with pytest.raises(InvalidRequestError) as caught:
        completion(logit_bias=bias)
    assert str(caught.value.param).startswith("logit_bias")


@pytest.mark.parametrize("name", ["model", "suffix", "stop"])
def test_half_of_a_surrogate_pair_is_no_text(name: str) -> None:
    """A field that a reply repeats, or that a text is searched for, must be valid text."""
    with pytest.raises(InvalidRequestError) as caught:
        completion(**{name: "\ud800"})
    assert str(caught.value.param).startswith(name)

"""Errors as clients get them."""

from __future__ import annotations

import re

import pytest

from mlc_serve.errors import InvalidRequestError, QueueFullError, UnsupportedFieldError
from mlc_serve.protocol.errors import error_object, from_validation_errors, validated
from mlc_serve.protocol.openai import ChatCompletionRequest, CompletionRequest


def test_object_has_openais_form_and_mlcs_beside_it() -> None:
    """Clients of either find the fields that they read."""
    assert error_object(QueueFullError("full", "n")) == {
        "error": {"message": "full", "type": "rate_limit_error", "param": "n", "code": "queue_full"},
        "object": "error",
        "message": "full",
        "code": 429,
    }


def test_the_path_leads_to_the_field() -> None:
    """The path goes through objects and lists."""
    fault = {
        "type": "int_type",
        "loc": ("messages", 0, "n"),
        "msg": "Input should be 1",
        "input": "x",
    }
    error = from_validation_errors([fault])
    assert error.param == "messages.0.n"
    assert error.message == "messages.0.n: should be 1, not 'x'."


def test_missing_body_is_said_in_words() -> None:
    """A message without a path still has a subject."""
    fault = {"type": "missing", "loc": (), "msg": "Field required", "input": None}
    assert from_validation_errors([fault]).message == "the request body is missing."


def test_first_faults_are_told_and_the_rest_counted() -> None:
    """A long list of faults would help nobody."""
    with pytest.raises(InvalidRequestError, match="and 3 more") as caught:
        validated(CompletionRequest, {"n": 0, "top_k": -5, "min_p": 2, "seed": "x", "stop": 3})
    assert caught.value.param == "top_k"


def test_long_values_are_shortened() -> None:
    """A megabyte that was sent by mistake is not repeated in the error."""
    with pytest.raises(InvalidRequestError) as caught:
        validated(CompletionRequest, {"prompt": "a", "temperature": "x" * 10**6})
    assert len(caught.value.message) < 200


def test_values_that_hold_others_are_not_written_out() -> None:
    """Describing what a list holds would take as long as reading the list."""
    with pytest.raises(InvalidRequestError, match=r"temperature: should be a valid number, not a list\."):
        validated(CompletionRequest, {"prompt": "a", "temperature": [0] * 10**6})


def test_unsupported_keeps_its_kind() -> None:
    """An unsupported field has another error than an invalid one."""
    with pytest.raises(UnsupportedFieldError) as caught:
        validated(CompletionRequest, {"prompt": "a", "response_format": {"type": "regex"}})
    assert error_object(caught.value)["error"]["code"] == "unsupported"


@pytest.mark.parametrize("field", ["debug_config", "response_format", "stream_options"])
def test_value_that_is_no_object_is_told_in_words(field: str) -> None:
    """The message contains no name of one of our classes."""
    with pytest.raises(InvalidRequestError, match=f"{field}: should be an object, not 5"):
        validated(CompletionRequest, {"prompt": "a", field: 5})


def test_the_first_wrong_elements_of_a_list_are_told() -> None:
    """The error has the positions of only the first few."""
    right, wrong = {"role": "user", "content": "a"}, {"role": "robot", "content": "a"}
    with pytest.raises(InvalidRequestError) as caught:
        validated(ChatCompletionRequest, {"messages": [right, wrong, right, wrong, *[wrong] * 10_000]})
    assert caught.value.param == "messages.1.role"
    told = re.findall(r"messages\.\d+", caught.value.message)
    assert told == ["messages.1", "messages.3", "messages.4"]


def test_faults_of_elements_keep_their_kind() -> None:
    """An element that asks for something unsupported has another error than a malformed one."""
    parts = [{"type": "image_url", "image_url": {"url": "data:"}}]
    messages = [{"role": "user", "content": "a"}, {"role": "user", "content": parts}]
    with pytest.raises(UnsupportedFieldError, match="image_url") as caught:
        validated(ChatCompletionRequest, {"messages": messages})
    assert caught.value.param == "messages.1.content"


@pytest.mark.parametrize("messages", [[], "hi", None])
def test_faults_of_the_list_itself_are_told(messages: object) -> None:
    """The error is about the list, not about its elements."""
    with pytest.raises(InvalidRequestError) as caught:
        validated(ChatCompletionRequest, {"messages": messages})
    assert caught.value.param == "messages"

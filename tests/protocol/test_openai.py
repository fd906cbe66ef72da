"""Ranges and contradictions of request fields."""

from __future__ import annotations

from typing import Any

import pytest

from mlc_serve.errors import InvalidRequestError, RequestError, UnsupportedFieldError
from mlc_serve.protocol.errors import validated
from mlc_serve.protocol.openai import ChatCompletionRequest, CompletionRequest

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def chat(**fields: Any) -> ChatCompletionRequest:
    """A chat request with these fields."""
    return validated(ChatCompletionRequest, {**CHAT, **fields})


def completion(**fields: Any) -> CompletionRequest:
    """A completion request with these fields."""
    return validated(CompletionRequest, {"prompt": "a", **fields})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("temperature", 2.1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("temperature", "0.5"),
        ("temperature", True),
        ("top_p", -0.1),
        ("top_p", 1.1),
        ("min_p", -0.1),
        ("min_p", 1.1),
        ("top_k", -2),
        ("top_k", 1.5),
        ("presence_penalty", 2.1),
        ("frequency_penalty", -2.1),
        ("repetition_penalty", 0),
        ("repetition_penalty", 1e-38),
        ("repetition_penalty", 2.5),
        ("n", 0),
        ("n", "2"),
        ("max_tokens", 0),
        ("max_tokens", -2),
        ("max_completion_tokens", 0),
        ("min_tokens", -1),
        ("seed", 2**63),
        ("stop_token_ids", [-1]),
        ("stop_token_ids", ["a"]),
        ("logprobs", 3),
        ("messages", []),
        ("messages", "hi"),
        ("stream", "yes"),
        ("model", 7),
        ("reasoning_effort", "extreme"),
    ],
)
def test_value_out_of_range_is_refused(field: str, value: object) -> None:
    """The error names the field."""
    with pytest.raises(InvalidRequestError) as caught:
        chat(**{field: value})
    path = "max_tokens" if value == 0 and field == "max_completion_tokens" else field
    assert str(caught.value.param).split(".")[0] == path
    assert path in caught.value.message


def test_values_at_the_edges_are_taken() -> None:
    """Ranges include their bounds where they are defined to."""
    request = chat(
        temperature=0, top_p=1, min_p=1, top_k=-1, presence_penalty=-2, frequency_penalty=2,
        repetition_penalty=2, n=1, max_tokens=1, min_tokens=1, seed=-(2**63), logprobs=True,
        top_logprobs=20,
    )  # fmt: skip
    assert (request.temperature, request.top_k, request.token_limit) == (0, -1, 1)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
        ({"max_tokens": 5, "min_tokens": 6}, "min_tokens"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"continue_final_message": True}, "continue_final_message"),
        ({"continue_final_message": True, "add_generation_prompt": True}, "continue_final_message"),
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {}}},
            "response_format.json_schema.schema",
        ),
        ({"response_format": {"type": "text", "schema": {}}}, "response_format.schema"),
        ({"response_format": {"type": "json_object", "schema": "{"}}, "response_format.schema"),
        ({"structured_outputs": {}}, "structured_outputs"),
        ({"structured_outputs": {"regex": "a", "json": {}}}, "structured_outputs"),
        ({"structured_outputs": {"choice": []}}, "structured_outputs.choice"),
        ({"structured_outputs": {"json": 5}}, "structured_outputs.json"),
        ({"regex": "a", "guided_json": {}}, "guided_json"),
        (
            {"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}},
            "structured_outputs",
        ),
        ({"tool_choice": "always"}, "tool_choice"),
        ({"tools": [{"type": "function"}]}, "tools.0.function"),
    ],
)
def test_contradictions_are_refused(fields: dict[str, Any], param: str) -> None:
    """The error names one of the fields that contradict each other."""
    with pytest.raises(InvalidRequestError) as caught:
        chat(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": {"type": "structural_tag"}}, "response_format"),
        ({"structured_outputs": {"structural_tag": "{}"}}, "structured_outputs.structural_tag"),
        ({"tools": [TOOL], "tool_choice": {"type": "custom", "custom": {"name": "f"}}}, "tool_choice"),
    ],
)
def test_what_is_not_supported_is_refused_as_that(fields: dict[str, Any], param: str) -> None:
    """It is never accepted and ignored."""
    with pytest.raises(UnsupportedFieldError) as caught:
        chat(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize("name", ["guided_json", "json_schema"])
def test_other_servers_names_for_the_form_of_the_output(name: str) -> None:
    """They mean the same as the field of `structured_outputs`."""
    request = chat(**{name: '{"type": "null"}'})
    assert request.structured_outputs is not None
    assert request.structured_outputs.json_ == {"type": "null"}


def test_ordinary_wishes_of_clients_are_taken() -> None:
    """Text format, automatic tools, both names of the token limit, and stream options without a stream are
    accepted.
    """
    request = chat(response_format={"type": "text"}, tools=[TOOL], tool_choice="auto", max_tokens=4,
                   max_completion_tokens=4, stream_options={"include_usage": True})  # fmt: skip
    assert request.token_limit == 4


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("a", ["a"]),
        (["a", "b"], ["a", "b"]),
        ([1, 2], [[1, 2]]),
        ([[1, 2], [3]], [[1, 2], [3]]),
        ([1] * 1000, [[1] * 1000]),
    ],
)
def test_forms_of_a_prompt(prompt: object, prompts: list[object]) -> None:
    """One prompt or several, text or token ids, always become a list of prompts."""
    assert completion(prompt=prompt).prompt == prompts


@pytest.mark.parametrize("prompt", [[], [[]], 5, [1.5], [True], [[1], "a", None], {"a": 1}, [["a"]]])
def test_bad_prompt_is_refused(prompt: object) -> None:
    """The error is about `prompt`, not about one of its accepted types."""
    with pytest.raises(InvalidRequestError) as caught:
        completion(prompt=prompt)
    assert caught.value.param == "prompt"


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"max_tokens": 0}, "max_tokens"), ({"logprobs": 6}, "logprobs"), ({"logprobs": True}, "logprobs"),
     ({"best_of": 2}, "best_of")],
)  # fmt: skip
def test_completion_wishes_that_are_refused(fields: dict[str, Any], param: str) -> None:
    """Choices that would be computed and thrown away are among them."""
    with pytest.raises(RequestError) as caught:
        completion(**fields)
    assert caught.value.param == param


def test_completion_wishes_that_are_taken() -> None:
    """An echo needs no output, and best_of may equal n."""
    assert completion(max_tokens=0, echo=True, logprobs=5, best_of=2, n=2).token_limit == 0


def test_schema_shows_the_forms_clients_may_send() -> None:
    """The API's schema allows a single string where the server does."""
    properties = CompletionRequest.model_json_schema()["properties"]
    for name in ("prompt", "stop"):
        assert {"type": "string"} in properties[name]["anyOf"]

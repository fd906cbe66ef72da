"""A request for a response becomes one for a chat completion."""

from __future__ import annotations

from typing import Any

import pytest

from mlc_serve.errors import InvalidRequestError, RequestError
from mlc_serve.frontend.responses.chat_request import chat_request, naming_fields_of_responses
from mlc_serve.protocol.errors import validated
from mlc_serve.protocol.openai import ChatCompletionRequest
from mlc_serve.protocol.responses.request import ResponseRequest


def chat(**fields: Any) -> ChatCompletionRequest:
    """The chat request that a request with these fields becomes."""
    request = validated(ResponseRequest, {"input": "Hello", **fields})
    return chat_request(request, request.input)  # type: ignore[arg-type]


def test_settings_keep_their_meaning() -> None:
    """Settings are those of the chat under its names; a stream counts its tokens."""
    made = chat(
        instructions="Be brief.",
        max_output_tokens=5,
        temperature=0.5,
        top_p=0.9,
        top_k=3,
        seed=1,
        top_logprobs=2,
        reasoning={"effort": "low", "summary": "auto"},
        parallel_tool_calls=False,
        stream=True,
    )
    assert [(message.role, message.content) for message in made.messages] == [
        ("system", "Be brief."),
        ("user", "Hello"),
    ]
    assert (made.token_limit, made.temperature, made.top_p, made.top_k, made.seed) == (5, 0.5, 0.9, 3, 1)
    assert (made.logprobs, made.top_logprobs, made.reasoning_effort) == (True, 2, "low")
    assert (made.parallel_tool_calls, made.stream, made.wants_usage) == (False, True, True)


def test_tools_get_the_chats_shape() -> None:
    """Tools are nested as a chat has them. Those that are not allowed are left out."""
    tools = [{"type": "function", "name": name, "description": name.upper()} for name in ("f", "g")]
    assert [tool.function.description for tool in chat(tools=tools).tools] == ["F", "G"]
    allowed = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "g"}]}
    assert [tool.function.name for tool in chat(tools=tools, tool_choice=allowed).tools] == ["g"]
    assert chat(tools=tools, tool_choice="none").tool_choice == "none"


def test_an_empty_conversation_is_refused() -> None:
    """There must be something to answer."""
    with pytest.raises(InvalidRequestError) as refusal:
        chat(input=[])
    assert refusal.value.param == "input"


@pytest.mark.parametrize(
    ("param", "own"),
    [
        ("messages.3.content", "input"),
        ("response_format.json_schema.schema", "text.format.schema"),
        ("max_tokens", "max_output_tokens"),
        ("tools.0.function.parameters", "tools.0.parameters"),
        (None, None),
    ],
)
def test_errors_name_the_fields_of_the_request(param: str | None, own: str | None) -> None:
    """An error about the chat request names the field of the request that it was made from."""
    with pytest.raises(RequestError) as refusal, naming_fields_of_responses():
        raise InvalidRequestError(f"{param}: is wrong.", param)
    assert (refusal.value.param, refusal.value.message) == (own, f"{own}: is wrong.")

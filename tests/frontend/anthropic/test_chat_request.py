"""Anthropic's requests as chat completions."""

from __future__ import annotations

from typing import Any

import pytest

from mlc_serve.errors import InvalidRequestError, UnsupportedFieldError
from mlc_serve.frontend.anthropic.chat_request import anthropics_names, chat_request, counted_request
from mlc_serve.protocol.anthropic.request import CountTokensRequest, MessagesRequest
from mlc_serve.protocol.errors import validated
from mlc_serve.protocol.openai import ChatCompletionRequest

HELLO = {"role": "user", "content": "Hello"}
TOOL = {"name": "f", "description": "Finds.", "input_schema": {"type": "object"}}


def chat(*messages: dict[str, Any], **fields: Any) -> ChatCompletionRequest:
    """The chat completion for a conversation."""
    body = {"max_tokens": 5, "messages": list(messages) or [HELLO], **fields}
    return chat_request(validated(MessagesRequest, body))


def shown(request: ChatCompletionRequest) -> list[dict[str, Any]]:
    """The messages, without empty fields."""
    messages = (message.model_dump(exclude_none=True) for message in request.messages)
    return [{name: value for name, value in message.items() if value != []} for message in messages]


def test_a_conversation_keeps_its_order_and_all_its_parts() -> None:
    """Thinking, calls and results reach the model in their places; what it can't read is left out."""
    call = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}}
    request = chat(
        HELLO,
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "s"},
                {"type": "redacted_thinking", "data": "d"},
                {"type": "text", "text": "Let me see."},
                call,
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": "Nothing.", "is_error": True},
                {"type": "tool_result", "tool_use_id": "toolu_2"},
                {"type": "text", "text": "Well?"},
            ],
        },
        {"role": "user", "content": "Go on."},
        system="Be kind.",
    )
    function = {"name": "f", "arguments": '{"a": 1}'}
    assert shown(request) == [
        {"role": "system", "content": "Be kind."},
        HELLO,
        {
            "role": "assistant",
            "content": "Let me see.",
            "reasoning_content": "Hm.",
            "tool_calls": [{"id": "toolu_1", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "toolu_1", "content": ["Error:", "Nothing."]},
        {"role": "tool", "tool_call_id": "toolu_2", "content": ""},
        {"role": "user", "content": ["Well?", "Go on."]},
    ]


@pytest.mark.parametrize(
    ("system", "left"),
    [
        ([{"type": "text", "text": "x-anthropic-billing-header: cc_version=2; cch=1;"}], None),
        ("x-anthropic-billing-header: cch=1;\nBe kind.", "Be kind."),
        (
            [
                {"type": "text", "text": "x-anthropic-billing-header: cch=1;"},
                {"type": "text", "text": "Be kind."},
                {"type": "text", "text": "Be brief."},
            ],
            ["Be kind.", "Be brief."],
        ),
    ],
)
def test_the_billing_header_is_no_part_of_the_prompt(system: Any, left: object) -> None:
    """Requests that differ only in it have the same prompt, which is found in the prefix cache."""
    first, *_ = shown(chat(system=system))
    assert first == (HELLO if left is None else {"role": "system", "content": left})


def test_system_messages_at_the_beginning_are_part_of_the_system_prompt() -> None:
    """A template sees one system message, as many templates take no more."""
    request = chat({"role": "system", "content": "Be brief."}, HELLO, system="Be kind.")
    assert shown(request) == [{"role": "system", "content": ["Be kind.", "Be brief."]}, HELLO]


def test_the_assistants_last_message_is_continued() -> None:
    """A beginning of the answer is not a message of its own; a call can't be one."""
    assert chat(HELLO, {"role": "assistant", "content": "I"}).continue_final_message
    assert not chat(HELLO).continue_final_message
    call = {"type": "tool_use", "id": "toolu_1", "name": "f"}
    with pytest.raises(InvalidRequestError, match="tool_result"):
        chat(HELLO, {"role": "assistant", "content": [call]})


def test_parameters_keep_their_meaning() -> None:
    """Limits, sampling, tools and thinking become the fields of chat completions."""
    request = chat(
        stop_sequences=["END"],
        temperature=0.5,
        top_p=0.9,
        top_k=7,
        stream=True,
        tools=[TOOL],
        tool_choice={"type": "none", "disable_parallel_tool_use": True},
        thinking={"type": "disabled"},
        output_config={"effort": "low"},
    )
    assert (request.token_limit, request.stop, request.stream) == (5, ["END"], True)
    assert (request.temperature, request.top_p, request.top_k) == (0.5, 0.9, 7)
    assert (request.tool_choice, request.parallel_tool_calls) == ("none", False)
    assert request.chat_template_kwargs == {"enable_thinking": False}
    assert request.reasoning_effort == "low"
    function = request.tools[0].function
    assert (function.name, function.description, function.parameters) == ("f", "Finds.", {"type": "object"})


def test_a_budget_of_thinking_limits_the_reasoning() -> None:
    """And thinking is asked for."""
    request = chat(thinking={"type": "enabled", "budget_tokens": 1024})
    assert request.reasoning_limit == 1024
    assert request.chat_template_kwargs == {"enable_thinking": True}


def test_what_is_counted_is_the_same_prompt() -> None:
    """The messages of both kinds of requests become the same messages."""
    fields: dict[str, Any] = {"messages": [HELLO], "system": "Be kind.", "tools": [TOOL], "max_tokens": 5}
    asked = chat_request(validated(MessagesRequest, fields))
    counted = counted_request(validated(CountTokensRequest, fields))
    assert (counted.messages, counted.tools) == (asked.messages, asked.tools)


def test_errors_name_the_fields_that_were_sent() -> None:
    """A client never reads the name of a chat completion's field that it did not send."""
    with pytest.raises(UnsupportedFieldError) as refused, anthropics_names():
        raise UnsupportedFieldError(
            "response_format.json_schema.schema: no", "response_format.json_schema.schema"
        )
    assert refused.value.param == "output_config.format.schema"
    assert refused.value.message == "output_config.format.schema: no"

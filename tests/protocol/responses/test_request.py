"""The request for a response: what it accepts, and what it refuses by which name."""

from __future__ import annotations

from typing import Any

import pytest

from mlc_serve.errors import InvalidRequestError, RequestError, UnsupportedFieldError
from mlc_serve.protocol.errors import validated
from mlc_serve.protocol.responses.items import (
    FunctionCall,
    FunctionCallOutput,
    InputMessage,
    ItemReference,
    ReasoningItem,
)
from mlc_serve.protocol.responses.request import ResponseRequest
from mlc_serve.protocol.unknown_fields import UnknownFields

F: dict[str, Any] = {"type": "function", "name": "f"}
ONLY_G = {"type": "allowed_tools", "mode": "auto", "tools": [{**F, "name": "g"}]}


def asked(**fields: Any) -> ResponseRequest:
    """A request with these fields."""
    return validated(ResponseRequest, {"input": "Hello", **fields})


def test_items_are_told_apart_by_their_type_or_their_fields() -> None:
    """A text is the user's message; without a type an item is a message, or a reference if it has no role."""
    assert asked().input == [InputMessage(role="user", content="Hello")]
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": {"a": 1}}
    output = {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "1"}]}
    kinds = [InputMessage, FunctionCall, FunctionCallOutput, ReasoningItem, ItemReference]
    items = [{"role": "user", "content": "Hi"}, call, output, {"type": "reasoning"}, {"id": "msg_1"}]
    assert [type(item) for item in asked(input=items).input] == kinds


def test_the_items_of_a_reply_may_be_sent_back() -> None:
    """Fields that OpenAI's clients send with items of a reply are accepted; reasoning is read from them."""
    text = {"type": "output_text", "text": "Hi", "annotations": [], "logprobs": []}
    summary = [{"type": "summary_text", "text": "short"}]
    message, reasoning = asked(
        input=[
            {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "phase": "commentary",
                "content": [text, {"type": "refusal", "refusal": "No."}],
            },
            {
                "id": "rs_1",
                "type": "reasoning",
                "summary": summary,
                "content": None,
                "encrypted_content": "gAAA",
            },
        ]
    ).input
    assert isinstance(message, InputMessage)
    assert message.content == ["Hi", "No."]
    assert isinstance(reasoning, ReasoningItem)
    assert reasoning.text == "short"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input.0.content"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input.0.content"),
        ({"input": [{"type": "web_search_call", "id": "x"}]}, "input.0.type"),
        ({"tools": [F, {"type": "web_search"}]}, "tools.1.type"),
        ({"tools": [{"type": "mcp", "server_label": "x"}]}, "tools.0.type"),
        ({"tool_choice": {"type": "file_search"}}, "tool_choice.type"),
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"truncation": "auto"}, "truncation"),
    ],
)
def test_what_is_not_built_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    """What the server can't do is unsupported, and the error names the field."""
    with pytest.raises(UnsupportedFieldError) as refusal:
        validated(ResponseRequest, {"input": "Hello", **fields}, UnknownFields())
    assert refusal.value.param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": 3}, "input"),
        ({"input": ["Hello"]}, "input.0"),
        ({"input": [{"role": "user", "content": "Hi"}, {**F, "type": "function_call"}]}, "input.1.call_id"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata"),
        ({"metadata": {"a": "b" * 513}}, "metadata"),
        ({"include": ["everything"]}, "include.0"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
        ({"tool_choice": "always"}, "tool_choice"),
        ({"tools": [F], "tool_choice": ONLY_G}, "tool_choice"),
    ],
)
def test_mistakes_are_refused_by_name(fields: dict[str, Any], param: str) -> None:
    """A field that is malformed is invalid, and the error names it with the position in a list."""
    with pytest.raises(InvalidRequestError) as refusal:
        validated(ResponseRequest, {"input": "Hello", **fields}, UnknownFields())
    assert refusal.value.param == param


def test_unknown_fields_are_recorded_by_their_place() -> None:
    """Unknown fields of the request and of its items are listed, and refused by strict servers."""
    fields = {"input": [{"role": "user", "content": "Hi", "mood": 1}], "tone": 2}
    unknown = UnknownFields()
    validated(ResponseRequest, fields, unknown)
    assert set(unknown.names) == {"input.mood", "tone"}
    with pytest.raises(RequestError):
        validated(ResponseRequest, fields)


@pytest.mark.parametrize("fields", [{"include": ["message.output_text.logprobs"]}, {"top_logprobs": 2}])
def test_logprobs_are_asked_for_in_two_ways(fields: dict[str, Any]) -> None:
    """Logprobs come with `include`, or with alternatives."""
    assert asked(**fields).wants_logprobs
    assert not asked(top_logprobs=0, include=["reasoning.encrypted_content"]).wants_logprobs

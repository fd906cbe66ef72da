"""Messages, tool calls in the history, tools."""

from __future__ import annotations

from typing import Any

import pytest

from mlc_serve.errors import InvalidRequestError, RequestError, UnsupportedFieldError
from mlc_serve.protocol.errors import validated
from mlc_serve.protocol.messages import Message, Tool
from mlc_serve.protocol.replies import AssistantMessage

CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}


@pytest.mark.parametrize("role", ["system", "developer", "user", "assistant"])
def test_roles_with_text(role: str) -> None:
    """Every role may have plain text."""
    assert validated(Message, {"role": role, "content": "hi"}).content == "hi"


def test_text_parts_stay_parts() -> None:
    """Content given as parts arrives as their texts: whether they are joined is up to the chat template."""
    parts = [{"type": "text", "text": "one"}, "two"]
    message = validated(Message, {"role": "user", "content": parts})
    assert message.content == ["one", "two"]
    assert Message.model_validate(message) == message


def test_image_parts_are_unsupported_by_name() -> None:
    """The error says which part and of which type."""
    parts = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "data:"}}]
    with pytest.raises(UnsupportedFieldError, match="part 1 is of type 'image_url'") as caught:
        validated(Message, {"role": "user", "content": parts})
    assert caught.value.param == "content"


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "robot", "content": "x"}, "role"),
        ({"content": "x"}, "role"),
        ({"role": "user"}, "content"),
        ({"role": "user", "content": 5}, "content"),
        ({"role": "user", "content": [5]}, "content"),
        ({"role": "user", "content": [{"type": "text"}]}, "content"),
        ({"role": "user", "content": "x", "tool_calls": [CALL]}, "tool_calls"),
        ({"role": "user", "content": "x", "tool_call_id": "1"}, "tool_call_id"),
    ],
)
def test_bad_message_is_refused(message: dict[str, Any], param: str) -> None:
    """The path leads to the field at fault."""
    with pytest.raises(InvalidRequestError) as caught:
        validated(Message, message)
    assert caught.value.param == param


def test_history_of_a_tool_call() -> None:
    """An assistant's call without content, and the tool's answer, are messages."""
    asked = validated(Message, {"role": "assistant", "content": None, "tool_calls": [CALL]})
    answered = validated(Message, {"role": "tool", "tool_call_id": "call_1", "content": "3"})
    assert asked.tool_calls[0].function.parsed_arguments() == {"a": 1}
    assert answered.tool_call_id == "call_1"


@pytest.mark.parametrize("arguments", ["[1]", "{", "1", "[" * 100_000])
def test_arguments_of_a_call_are_a_json_object(arguments: str) -> None:
    """Templates take the arguments apart, so they must be an object."""
    call = {"function": {"name": "f", "arguments": arguments}}
    with pytest.raises(InvalidRequestError) as caught:
        validated(Message, {"role": "assistant", "tool_calls": [call]})
    assert caught.value.param == "tool_calls.0.function.arguments"


def test_reply_can_be_sent_back_as_history() -> None:
    """A message object of a reply is a message of the next request."""
    reply = AssistantMessage(role="assistant", content="hi", refusal=None)
    assert Message.model_validate(reply).content == "hi"


def test_strict_tools_are_unsupported() -> None:
    """A schema that must hold can't be promised."""
    with pytest.raises(RequestError, match="constrained") as caught:
        validated(Tool, {"type": "function", "function": {"name": "f", "strict": True}})
    assert caught.value.param == "function.strict"

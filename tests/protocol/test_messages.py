"""Messages, tool calls in the history, tools."""

from __future__ import annotations

from typing import Any

import pytest

from mlc_serve.errors import InvalidRequestError, UnsupportedFieldError
from mlc_serve.protocol.errors import validated
from mlc_serve.protocol.messages import CalledFunction, Message, Tool
from mlc_serve.protocol.openai import ChatCompletionRequest
from mlc_serve.protocol.replies import AssistantMessage

CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}


@pytest.mark.parametrize("role", ["system", "developer", "user", "assistant"])
def test_roles_with_text(role: str) -> None:
    """Every role may have plain text."""
    assert validated(Message, {"role": role, "content": "hi"}).content == "hi"


def test_text_parts_stay_parts() -> None:
    """Content in parts becomes a list of their texts; the chat template decides whether they are joined."""
    parts = [{"type": "text", "text": "one"}, "two"]
    message = validated(Message, {"role": "user", "content": parts})
    assert message.content == ["one", "two"]
    assert Message.model_validate(message) == message


def test_image_parts_are_unsupported_by_name() -> None:
    """The error names the part and its type."""
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
    """The error has the path of the invalid field."""
    with pytest.raises(InvalidRequestError) as caught:
        validated(Message, message)
    assert caught.value.param == param


def test_history_of_a_tool_call() -> None:
    """An assistant's call without content and the tool's answer are valid messages."""
    asked = validated(Message, {"role": "assistant", "content": None, "tool_calls": [CALL]})
    answered = validated(Message, {"role": "tool", "tool_call_id": "call_1", "content": "3"})
    assert asked.tool_calls[0].function.parsed_arguments() == {"a": 1}
    assert answered.tool_call_id == "call_1"


@pytest.mark.parametrize(
    "arguments", ["[1]", "{", "1", "not json", '{"a": NaN', "[" * 100_000, '{"a":' * 500, '{"a": "\\ud83d"}']
)
def test_arguments_that_are_no_object_are_shown_as_they_are(arguments: str) -> None:
    """An agent reports what the model wrote; a template gets an object that it can render."""
    call = validated(CalledFunction, {"name": "f", "arguments": arguments})
    assert call.arguments == arguments
    assert call.parsed_arguments() == {"arguments": arguments}


@pytest.mark.parametrize("arguments", [{"a": "ü"}, '{"a": "ü"}'])
def test_arguments_may_be_the_object_itself(arguments: object) -> None:
    """Some clients send an object instead of its JSON text."""
    assert validated(CalledFunction, {"name": "f", "arguments": arguments}).parsed_arguments() == {"a": "ü"}


@pytest.mark.parametrize("arguments", ["", "{}", None, "null", "[]", {}])
def test_no_arguments(arguments: object) -> None:
    """A call may have none."""
    assert validated(CalledFunction, {"name": "f", "arguments": arguments}).parsed_arguments() == {}


@pytest.mark.parametrize("role", ["assistant", "tool"])
def test_assistants_and_tools_may_say_nothing(role: str) -> None:
    """Null stays null: some templates ask for it."""
    assert validated(Message, {"role": role, "content": None}).content is None


def test_another_servers_reply_is_history() -> None:
    """Other fields of such a reply change nothing, and other names of a field are accepted."""
    sent: dict[str, Any] = {
        "role": "assistant",
        "content": None,
        "refusal": "No.",
        "reasoning": "Hm.",
        "annotations": [],
        "audio": {"id": "audio_1"},
        "tool_calls": [],
    }
    message = validated(Message, sent)
    assert (message.content, message.reasoning_content) == ("No.", "Hm.")
    assert validated(Message, {**sent, "content": "Yes."}).content == "Yes."


def test_refusal_parts_are_text() -> None:
    """A refusal in the history is the assistant's text."""
    parts = [{"type": "text", "text": "Sorry."}, {"type": "refusal", "refusal": "No."}]
    assert validated(Message, {"role": "assistant", "content": parts}).content == ["Sorry.", "No."]


def test_reply_can_be_sent_back_as_history() -> None:
    """The message of a reply is a valid message of the next request."""
    reply = AssistantMessage(role="assistant", content="hi", refusal=None)
    assert Message.model_validate(reply).content == "hi"


def test_strict_functions_are_taken() -> None:
    """Null and false are the default."""
    assert validated(Tool, {"function": {"name": "f", "strict": True}}).function.strict
    for strict in (None, False):
        assert not validated(Tool, {"function": {"name": "f", "strict": strict}}).function.strict


@pytest.mark.parametrize("tool", [{"type": "custom", "custom": {"name": "f"}}, {"type": "web_search"}])
def test_tools_that_are_no_functions_are_unsupported_by_name(tool: dict[str, Any]) -> None:
    """The error has the path of the type."""
    with pytest.raises(UnsupportedFieldError) as caught:
        validated(ChatCompletionRequest, {"messages": [{"role": "user", "content": "a"}], "tools": [tool]})
    assert caught.value.param in ("tools.0.type", "tools.0.custom")

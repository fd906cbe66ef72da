"""Items become the messages of a chat."""

from __future__ import annotations

from typing import Any

from mlc_serve.frontend.responses.chat_messages import chat_messages
from mlc_serve.protocol.errors import validated
from mlc_serve.protocol.responses.items import ItemReference
from mlc_serve.protocol.responses.request import ResponseRequest

REASONING = {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "Hm."}]}
CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
CALLED = {"id": "c1", "function": {"name": "f", "arguments": "{}"}}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "1"}


def assistant(text: str) -> dict[str, Any]:
    """A message of the assistant."""
    return {"role": "assistant", "content": text}


def messages_of(*items: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages that these items become."""
    request = validated(ResponseRequest, {"input": list(items)})
    return chat_messages([item for item in request.input if not isinstance(item, ItemReference)])


def test_a_turn_becomes_one_message() -> None:
    """Reasoning, a text and calls are one message of the assistant; outputs and others are their own."""
    user = {"role": "user", "content": "Hi"}
    other = {**CALL, "call_id": "c2"}
    turn, *rest = messages_of(user, REASONING, assistant("So:"), CALL, other, OUTPUT, assistant("Done."))[1:]
    calls = [CALLED, {**CALLED, "id": "c2"}]
    assert turn == {"role": "assistant", "content": "So:", "reasoning_content": "Hm.", "tool_calls": calls}
    assert rest == [{"role": "tool", "tool_call_id": "c1", "content": "1"}, assistant("Done.")]


def test_what_is_not_one_turn_stays_apart() -> None:
    """Two texts in a row are two messages, and reasoning begins a new one."""
    assert messages_of(assistant("One."), assistant("Two.")) == [assistant("One."), assistant("Two.")]
    _, second = messages_of(assistant("One."), REASONING, CALL)
    assert second["tool_calls"] == [CALLED]
    assert second["reasoning_content"] == "Hm."


def test_a_text_behind_a_call_joins_its_message() -> None:
    """A reply that wrote text, called and went on writing is one message, so that outputs follow calls."""
    (message, _) = messages_of(assistant("One."), CALL, assistant("Two."), OUTPUT)
    assert message == {"role": "assistant", "content": ["One.", "Two."], "tool_calls": [CALLED]}

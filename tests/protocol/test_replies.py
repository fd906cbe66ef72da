"""Replies as they are sent."""

from __future__ import annotations

import json

from mlc_serve.protocol.replies import (
    AssistantMessage,
    ChatChunkChoice,
    ChatCompletionChunk,
    ChatDelta,
    FunctionDelta,
    ToolCallDelta,
)


def chunk(**fields: object) -> dict[str, object]:
    """A chunk without choices, as sent."""
    always = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    reply = ChatCompletionChunk.model_validate(
        {**always, "system_fingerprint": "fp", "choices": [], **fields}
    )
    return dict(json.loads(reply.to_json()))


def test_null_is_sent_where_it_was_set() -> None:
    """Like OpenAI, it sends a null refusal, and a null usage before the last chunk."""
    assert chunk(usage=None)["usage"] is None
    message = AssistantMessage(role="assistant", content=None, refusal=None)
    assert json.loads(message.to_json()) == {"role": "assistant", "content": None, "refusal": None}


def test_what_was_not_set_is_left_out() -> None:
    """There is no usage unless it was asked for, and there are no tool calls unless the model made some."""
    assert "usage" not in chunk()
    choice = ChatChunkChoice(index=0, delta=ChatDelta(), logprobs=None, finish_reason="stop")
    assert json.loads(choice.to_json())["delta"] == {}


def test_fragment_of_a_call_has_its_index_and_nothing_said_before() -> None:
    """SDKs concatenate names, so that a name must be sent once."""
    delta = ToolCallDelta(index=1, function=FunctionDelta(arguments="{}"))
    assert json.loads(delta.to_json()) == {"index": 1, "function": {"arguments": "{}"}}

"""Chunks of chat completions as the events of Anthropic's streams."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from mlc_serve.errors import RequestFailedError
from mlc_serve.frontend.anthropic.message import message_reply
from mlc_serve.frontend.anthropic.message_events import MessageEvents, text_event
from mlc_serve.frontend.usage import UsageCount
from mlc_serve.protocol.anthropic.request import MessagesRequest
from mlc_serve.protocol.errors import validated
from mlc_serve.protocol.replies import (
    AssistantMessage,
    ChatChoice,
    ChatChunkChoice,
    ChatCompletion,
    ChatCompletionChunk,
    ChatDelta,
    FunctionDelta,
    ToolCallDelta,
)
from mlc_serve.protocol.reply_stream import TextPart

FIELDS: Any = {"id": "msg_1", "created": 1, "model": "m", "system_fingerprint": "f"}
USAGE = UsageCount([[1, 2]], 1).usage
END: dict[str, Any] = {"finish_reason": "stop"}


def asked(**fields: Any) -> MessagesRequest:
    """A request for a message."""
    messages = [{"role": "user", "content": "Hello"}]
    return validated(MessagesRequest, {"max_tokens": 5, "messages": messages, **fields})


def chunk(delta: ChatDelta | None = None, **end: Any) -> ChatCompletionChunk:
    """A chunk that adds a delta to the only choice."""
    choice = ChatChunkChoice(
        index=0, delta=delta or ChatDelta(), logprobs=None, **{"finish_reason": None, **end}
    )
    return ChatCompletionChunk(object="chat.completion.chunk", choices=[choice], **FIELDS)


def call(index: int, name: str) -> list[ChatCompletionChunk]:
    """The chunks of a call, whose arguments arrive in two pieces."""
    named = FunctionDelta(name=name, arguments="")
    first = ToolCallDelta(index=index, id=f"call_{index}", type="function", function=named)
    rest = [ToolCallDelta(index=index, function=FunctionDelta(arguments=piece)) for piece in ('{"a":', " 1}")]
    return [chunk(ChatDelta(tool_calls=[delta])) for delta in (first, *rest)]


def told(
    parts: Iterable[ChatCompletionChunk | TextPart], request: MessagesRequest | None = None
) -> list[dict[str, Any]]:
    """The events of a reply after the first two, as dictionaries."""
    events = MessageEvents(request or asked(), "msg_1", "m")
    all_parts = [*events.start(USAGE), *(event for part in parts for event in events.push(part))]
    all_parts += events.finish(USAGE)
    whole = [text_event(part) if isinstance(part, TextPart) else part for part in all_parts]
    start, ping, *rest = [event.model_dump(exclude_unset=True) for event in whole]
    assert (start["type"], ping) == ("message_start", {"type": "ping"})
    return rest


def blocks(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """The kind and the whole text of each block, which begins and ends before the next one begins."""
    done: list[tuple[str, str]] = []
    kind, text = "", ""
    for event in events:
        if event["type"] == "content_block_start":
            assert (kind, event["index"]) == ("", len(done))
            kind, text = event["content_block"]["type"], ""
        elif event["type"] == "content_block_delta":
            assert (kind != "", event["index"]) == (True, len(done))
            text += next(value for name, value in event["delta"].items() if name != "type")
        elif event["type"] == "content_block_stop":
            assert (kind != "", event["index"]) == (True, len(done))
            done.append((kind, text))
            kind = ""
    return done


def test_every_kind_of_block() -> None:
    """Thinking, text and calls come as blocks, one after the other, and then the reason why it ended."""
    parts: list[ChatCompletionChunk | TextPart] = [
        chunk(ChatDelta(role="assistant", content="")),
        chunk(ChatDelta(reasoning_content="Let me")),
        chunk(ChatDelta(reasoning_content=" see.")),
        TextPart(0, "\n\n"),
        TextPart(0, "It"),
        TextPart(0, " is"),
        *call(0, "f"),
        TextPart(0, "\n"),
        *call(1, "g"),
        chunk(finish_reason="tool_calls"),
    ]
    *events, delta, stop = told(parts)
    expected = [("thinking", "Let me see."), ("text", "\n\nIt is"), *[("tool_use", '{"a": 1}')] * 2]
    assert blocks(events) == expected
    ids = [event["content_block"].get("id") for event in events if event["type"] == "content_block_start"]
    assert ids == [None, None, "toolu_0", "toolu_1"]
    assert delta["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}
    assert stop == {"type": "message_stop"}


def test_thinking_may_be_left_out() -> None:
    """A client that asked for no text of the thinking sees only that there was some."""
    request = asked(thinking={"type": "adaptive", "display": "omitted"})
    events = told([chunk(ChatDelta(reasoning_content="Hm.")), TextPart(0, "Yes."), chunk(**END)], request)
    assert blocks(events) == [("thinking", ""), ("text", "Yes.")]


def test_a_reply_of_white_space_alone_is_a_text() -> None:
    """White space is held back only for what might follow."""
    assert blocks(told([TextPart(0, " "), TextPart(0, "\n"), chunk(**END)])) == [("text", " \n")]
    assert blocks(told([chunk(**END)])) == []


@pytest.mark.parametrize(
    ("end", "max_tokens", "stop_reason", "stop_sequence"),
    [
        ({"finish_reason": "stop"}, 5, "end_turn", None),
        ({"finish_reason": "stop", "stop_reason": "END"}, 5, "stop_sequence", "END"),
        ({"finish_reason": "stop", "stop_reason": "<|turn|>"}, 5, "end_turn", None),
        ({"finish_reason": "tool_calls", "stop_reason": "END"}, 5, "tool_use", None),
        ({"finish_reason": "length"}, 5, "model_context_window_exceeded", None),
        ({"finish_reason": "length"}, 1, "max_tokens", None),
    ],
)
def test_why_a_reply_ended(
    end: dict[str, Any], max_tokens: int, stop_reason: str, stop_sequence: str | None
) -> None:
    """Whole and streamed replies tell the same reason. A template's own stop strings are not the client's."""
    usage = USAGE.model_copy(update={"completion_tokens": 1})
    request = asked(stop_sequences=["END"], max_tokens=max_tokens)
    events = MessageEvents(request, "msg_1", "m")
    assert list(events.push(chunk(**end))) == []
    delta = [event.model_dump() for event in events.finish(usage) if not isinstance(event, TextPart)][-2]
    assert delta["delta"] == {"stop_reason": stop_reason, "stop_sequence": stop_sequence}

    message = AssistantMessage(role="assistant", content="", refusal=None)
    choice = ChatChoice(index=0, message=message, logprobs=None, **end)
    whole = ChatCompletion(object="chat.completion", choices=[choice], usage=usage, **FIELDS)
    reply = message_reply(whole, request)
    assert (reply.stop_reason, reply.stop_sequence) == (stop_reason, stop_sequence)


def test_an_aborted_reply_is_an_error() -> None:
    """A client does not take a reply that was ended from outside for a whole one."""
    with pytest.raises(RequestFailedError):
        told([TextPart(0, "a"), chunk(finish_reason="abort")])

"""The events of a streamed response, made from the parts of a chat's stream."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mlc_serve.errors import RequestFailedError
from mlc_serve.frontend.responses.event_writer import EventWriter
from mlc_serve.frontend.responses.settings import settings_json
from mlc_serve.protocol.errors import validated
from mlc_serve.protocol.replies import (
    ChatChunkChoice,
    ChatCompletionChunk,
    ChatDelta,
    ChatLogprobs,
    ChoiceEnd,
    CompletionTokensDetails,
    FunctionDelta,
    PromptTokensDetails,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from mlc_serve.protocol.reply_stream import TextPart
from mlc_serve.protocol.responses.request import ResponseRequest

USAGE = Usage(
    prompt_tokens=5,
    completion_tokens=7,
    total_tokens=12,
    prompt_tokens_details=PromptTokensDetails(cached_tokens=4),
    completion_tokens_details=CompletionTokensDetails(reasoning_tokens=3),
)
A_TOKEN = TokenLogprob(token="a", logprob=-1.0, bytes=[97], top_logprobs=[])


def chunk(end: ChoiceEnd | None = None, logprobs: int = 0, **delta: Any) -> ChatCompletionChunk:
    """A chunk that adds these fields of a ChatDelta."""
    tokens = ChatLogprobs(content=[A_TOKEN] * logprobs, refusal=None) if logprobs else None
    choice = ChatChunkChoice(index=0, delta=ChatDelta(**delta), logprobs=tokens, finish_reason=end)
    return _chunk([choice])


def _chunk(choices: list[ChatChunkChoice], **more: Any) -> ChatCompletionChunk:
    fields: dict[str, Any] = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return ChatCompletionChunk(**fields, system_fingerprint="fp", choices=choices, **more)


def call(index: int, arguments: str, **more: Any) -> ChatCompletionChunk:
    """A chunk that adds to a call; `name` and `id` are those of its first piece."""
    name = {"name": more.pop("name")} if "name" in more else {}
    function = FunctionDelta(arguments=arguments, **name)
    return chunk(tool_calls=[ToolCallDelta(index=index, function=function, **more)])


ROLE = chunk(role="assistant", content="")
LAST = _chunk([], usage=USAGE)
EVERYTHING: list[ChatCompletionChunk | TextPart] = [
    ROLE,
    chunk(reasoning_content="Hm"),
    chunk(reasoning_content="m."),
    chunk(content="So"),
    TextPart(0, ' "it"\n'),
    call(0, "", id="call_1", name="f"),
    call(0, '{"a":'),
    call(0, "1}"),
    call(1, "", id="call_2", name="g"),
    call(1, "{}"),
    chunk("tool_calls"),
    LAST,
]


def writer() -> EventWriter:
    """A writer of a response."""
    request = validated(ResponseRequest, {"input": "Hello", "metadata": {"a": "b"}})
    return EventWriter("resp_1", settings_json(request, "m", store=True))


def events_of(*parts: ChatCompletionChunk | TextPart) -> list[dict[str, Any]]:
    """All events of a response that has these parts, parsed."""
    made = writer()
    events = [*made.begin(), *(event for part in parts for event in made.add(part)), *made.end()]
    parsed = [json.loads(event.to_json()) for event in events]
    assert [event.type for event in events] == [event["type"] for event in parsed]
    return parsed


def test_events_come_in_the_order_in_which_they_must() -> None:
    """Each item begins, grows and ends before the next one, and events are numbered from 0."""
    events = events_of(*EVERYTHING)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    types = [event["type"].removeprefix("response.") for event in events]
    begins, ends = ["output_item.added", "content_part.added"], ["content_part.done", "output_item.done"]
    arguments = "function_call_arguments"
    assert types == [
        *("created", "in_progress"),
        *(*begins, "reasoning_text.delta", "reasoning_text.delta", "reasoning_text.done", *ends),
        *(*begins, "output_text.delta", "output_text.delta", "output_text.done", *ends),
        *("output_item.added", f"{arguments}.delta", f"{arguments}.delta", f"{arguments}.done"),
        "output_item.done",
        *("output_item.added", f"{arguments}.delta", f"{arguments}.done", "output_item.done"),
        "completed",
    ]


def test_events_agree_with_the_response() -> None:
    """The last event has the items that were sent one by one, under the same ids, and the usage."""
    events = events_of(*EVERYTHING)
    response = events[-1]["response"]
    done = [event for event in events if event["type"] == "response.output_item.done"]
    assert [event["item"] for event in done] == response["output"]
    assert [event["output_index"] for event in done] == [0, 1, 2, 3]
    ids = [item["id"] for item in response["output"]]
    assert all(ids[event["output_index"]] == event["item_id"] for event in events if "item_id" in event)
    reasoning, message, first, second = response["output"]
    assert reasoning["content"] == [{"type": "reasoning_text", "text": "Hmm."}]
    assert reasoning["summary"] == []
    assert message["content"][0]["text"] == 'So "it"\n'
    assert [(item["call_id"], item["name"], item["arguments"]) for item in (first, second)] == [
        ("call_1", "f", '{"a":1}'),
        ("call_2", "g", "{}"),
    ]
    assert (response["status"], response["metadata"]) == ("completed", {"a": "b"})
    assert response["usage"] == {
        "input_tokens": 5,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 12,
    }


@pytest.mark.parametrize(("end", "status"), [("length", "incomplete"), ("abort", "failed")])
def test_an_output_that_was_cut_off_says_so(end: ChoiceEnd, status: str) -> None:
    """At the limit, the response and its last item are incomplete; after an abort it has failed."""
    last = events_of(ROLE, chunk(content="So"), chunk(end), LAST)[-1]
    assert last["type"] == f"response.{status}"
    response = last["response"]
    assert (response["status"], response["output"][0]["status"]) == (status, "incomplete")
    assert response["incomplete_details"] == ({"reason": "max_output_tokens"} if end == "length" else None)
    assert (response["error"] is not None) == (end == "abort")


def test_an_empty_output_is_an_empty_message() -> None:
    """A model that writes nothing gives a message without text."""
    (item,) = events_of(ROLE, chunk("stop"), LAST)[-1]["response"]["output"]
    assert (item["type"], item["content"][0]["text"]) == ("message", "")


def test_a_text_behind_a_call_is_a_new_item() -> None:
    """A stream keeps the order in which the model wrote."""
    output = events_of(chunk(content="A"), call(0, "{}", id="c", name="f"), chunk(content="B"))[-1]
    types = [item["type"] for item in output["response"]["output"]]
    assert types == ["message", "function_call", "message"]


def test_logprobs_come_with_the_text() -> None:
    """Deltas have the logprobs of their tokens. Those of text that is held back come with the next delta, and
    those of a call are left out.
    """
    held, text = chunk(content="", logprobs=2), chunk(content="a", logprobs=1)
    events = events_of(ROLE, held, text, chunk(content="", logprobs=1), chunk("stop"))
    deltas = [event for event in events if event["type"] == "response.output_text.delta"]
    assert [(event["delta"], len(event["logprobs"])) for event in deltas] == [("a", 3), ("", 1)]
    called = events_of(ROLE, held, call(0, "{}", id="c", name="f"), chunk("tool_calls"))
    assert not [event for event in called if event["type"] == "response.output_text.delta"]


def test_a_failure_ends_the_stream_with_what_there_is() -> None:
    """After a failure there is an error, and a failed response with the output so far."""
    made = writer()
    begun = [*made.begin(), *made.add(chunk(content="So"))]
    error, failed = (json.loads(event.to_json()) for event in made.fail(RequestFailedError("It broke.")))
    assert error == {
        "type": "error",
        "code": "request_failed",
        "message": "It broke.",
        "param": None,
        "sequence_number": len(begun),
    }
    assert failed["type"] == "response.failed"
    assert failed["response"]["error"] == {"code": "server_error", "message": "It broke."}
    assert failed["response"]["output"][0]["status"] == "incomplete"

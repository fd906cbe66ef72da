"""One choice of a chat reply."""

from __future__ import annotations

import json

import pytest

from mlc_serve.engine.backend import TokenLogprobs
from mlc_serve.engine.request import FinishReason
from mlc_serve.frontend.chat_choice import ChatChunkWriter, ChatMessageWriter, ChatOptions
from mlc_serve.frontend.chat_logprobs import ChatLogprobsWriter
from mlc_serve.frontend.choice import TextDelta
from mlc_serve.protocol.replies import ChatChoice, ChatChunkChoice
from mlc_serve.testing import byte_tokenizer

TOKENIZER = byte_tokenizer()
CALL = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
TOOLS = ChatOptions(parses_tools=True, logprobs=False)
PLAIN = ChatOptions(parses_tools=False, logprobs=False)


def deltas(text: str, reason: FinishReason = FinishReason.STOP) -> list[TextDelta]:
    """The text character by character, each with a logprob, and the end."""
    letters = [TextDelta(0, letter, logprobs=(TokenLogprobs(ord(letter), -1.0),)) for letter in text]
    return [*letters, TextDelta(0, finish_reason=reason)]


def message(text: str, options: ChatOptions, reason: FinishReason = FinishReason.STOP) -> ChatChoice:
    """The whole choice."""
    writer = ChatMessageWriter(0, options)
    for delta in deltas(text, reason):
        writer.add(delta)
    return writer.choice()


def chunks(text: str, options: ChatOptions) -> list[ChatChunkChoice]:
    """All parts of the choice."""
    writer = ChatChunkWriter(0, options, ChatLogprobsWriter(TOKENIZER))
    return [part for delta in deltas(text) for part in writer.write(delta)]


def test_call_becomes_a_call_with_arguments_as_a_string() -> None:
    """Content that is only white space is left out."""
    choice = message(f"\n{CALL}", TOOLS)
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    (call,) = choice.message.tool_calls or []
    assert call.id.startswith("call_")
    assert (call.function.name, json.loads(call.function.arguments)) == ("f", {"a": 1})


def test_text_beside_calls_is_content() -> None:
    """A reply may have several calls, and text before them."""
    choice = message(f"Let me see.{CALL}\n{CALL}", TOOLS)
    assert choice.message.content == "Let me see."
    ids = [call.id for call in choice.message.tool_calls or []]
    assert len(set(ids)) == 2


@pytest.mark.parametrize("text", ["no call", "<tool_call>not json</tool_call>", "<tool_call>", ""])
def test_answer_without_a_call_is_text(text: str) -> None:
    """A model that was offered tools need not call one, and none of its text is lost."""
    choice = message(text, TOOLS)
    assert (choice.message.content, choice.finish_reason) == (text, "stop")
    assert "tool_calls" not in choice.message.model_dump(exclude_unset=True)


def test_calls_are_text_where_no_tools_were_offered() -> None:
    """Calls are parsed only if tools were offered."""
    assert message(CALL, PLAIN).message.content == CALL


@pytest.mark.parametrize(
    ("text", "end"),
    [
        (CALL, "tool_calls"),
        (CALL.removesuffix("</tool_call>"), "tool_calls"),
        (CALL.removesuffix("</tool_call>").rstrip()[:-1], "length"),
        (CALL + CALL[:20], "length"),
        (CALL + "and", "length"),
    ],
)
def test_a_reply_that_was_cut_off_says_so_unless_its_last_call_is_whole(text: str, end: str) -> None:
    """A call is complete when its JSON is: a client can use it, whatever would have followed."""
    assert message(text, TOOLS, FinishReason.LENGTH).finish_reason == end


def test_a_call_without_its_end_tag_is_a_call() -> None:
    """Models may end their turn, or reach a stop string, before the tag."""
    choice = message(CALL.removesuffix("</tool_call>"), TOOLS)
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    assert len(choice.message.tool_calls or []) == 1


def test_chunks_begin_with_the_role_and_end_with_the_reason() -> None:
    """The content comes in between, each character once."""
    parts = chunks("hi", PLAIN)
    first, last = parts[0].delta, parts[-1]
    assert (first.role, first.content) == ("assistant", "")
    assert "".join(part.delta.content or "" for part in parts) == "hi"
    assert [part.finish_reason for part in parts] == [None, None, None, "stop"]
    assert last.delta.model_dump(exclude_unset=True) == {}


def test_streamed_calls_have_an_index_and_their_name_once() -> None:
    """The name comes first, then the arguments; SDKs concatenate them."""
    found = [call for part in chunks(f"{CALL}\n{CALL}", TOOLS) for call in part.delta.tool_calls or []]
    sent = [call.model_dump(exclude_unset=True) for call in found]
    assert [call["index"] for call in sent] == [0, 0, 1, 1]
    assert sent[0].keys() == {"index", "id", "type", "function"}
    assert sent[0]["function"] == {"name": "f", "arguments": ""}
    assert sent[1] == {"index": 0, "function": {"arguments": '{"a": 1}'}}
    assert sent[0]["id"] != sent[2]["id"]


@pytest.mark.parametrize("text", ["hi", f"see{CALL}x", "<tool_call>"])
def test_every_logprob_is_streamed_once(text: str) -> None:
    """This includes logprobs of text that is held back or becomes a call."""
    parts = chunks(text, ChatOptions(parses_tools=True, logprobs=True))
    sent = [entry.token for part in parts if part.logprobs is not None for entry in part.logprobs.content]
    assert "".join(sent) == text


@pytest.mark.parametrize("parallel", [True, False])
def test_a_reply_may_end_after_its_first_call(parallel: bool) -> None:
    """Without parallel calls, nothing after the first call is part of the reply."""
    options = ChatOptions(parses_tools=True, logprobs=False, ends_after_call=not parallel)
    text = f"Let me see.{CALL}and{CALL}"
    choice = message(text, options, FinishReason.LENGTH)
    assert len(choice.message.tool_calls or []) == 1 + parallel
    assert choice.message.content == ("Let me see.and" if parallel else "Let me see.")
    parts = chunks(text, options)
    assert {call.index for part in parts for call in part.delta.tool_calls or []} == {*range(1 + parallel)}
    assert [part.finish_reason for part in parts if part.finish_reason] == ["tool_calls"]


def test_a_reply_without_a_call_ends_as_it_would() -> None:
    """Nothing is cut off if no tool is called."""
    options = ChatOptions(parses_tools=True, logprobs=False, ends_after_call=True)
    assert message("no call", options).message.content == "no call"

"""One choice of a chat reply."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest

from mlc_serve.engine.backend import TokenLogprobs
from mlc_serve.engine.request import FinishReason
from mlc_serve.frontend.chat_choice import ChatChunkWriter, ChatMessageWriter, ChatOptions
from mlc_serve.frontend.chat_logprobs import ChatLogprobsWriter
from mlc_serve.frontend.choice import TextDelta
from mlc_serve.protocol.replies import ChatChoice, ChatChunkChoice
from mlc_serve.testing import byte_tokenizer
from mlc_serve.text.answer_form import AnswerForm
from mlc_serve.text.reasoning import REASONING

TOKENIZER = byte_tokenizer()
CALL = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
FORM = AnswerForm(reasoning=REASONING["think"])


def options(*, has_tools: bool = True, is_open: bool = False, **fields: Any) -> ChatOptions:
    """Options of a model that reasons."""
    functions: dict[str, Any] | None = {} if has_tools else None
    return ChatOptions(new_parser=partial(FORM.parser, functions, reasoning_is_open=is_open), **fields)


TOOLS = options()
PLAIN = ChatOptions()


def deltas(text: str, reason: FinishReason = FinishReason.STOP) -> list[TextDelta]:
    """The text character by character, each with a logprob, and the end."""
    letters = [TextDelta(0, letter, logprobs=(TokenLogprobs(ord(letter), -1.0),)) for letter in text]
    return [*letters, TextDelta(0, finish_reason=reason)]


def message(text: str, chosen: ChatOptions, reason: FinishReason = FinishReason.STOP) -> ChatChoice:
    """The whole choice."""
    writer = ChatMessageWriter(0, chosen)
    for delta in deltas(text, reason):
        writer.add(delta)
    return writer.choice()


def chunks(text: str, chosen: ChatOptions, reason: FinishReason = FinishReason.STOP) -> list[ChatChunkChoice]:
    """All parts of the choice."""
    writer = ChatChunkWriter(0, chosen, ChatLogprobsWriter(TOKENIZER))
    return [part for delta in deltas(text, reason) for part in writer.write(delta)]


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
        (CALL.removesuffix("</tool_call>").rstrip()[:-2], "length"),
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
    """The name comes first, then the arguments as they are generated; SDKs concatenate them."""
    found = [call for part in chunks(f"{CALL}\n{CALL}", TOOLS) for call in part.delta.tool_calls or []]
    sent = [call.model_dump(exclude_unset=True) for call in found]
    first, second = ([call for call in sent if call["index"] == index] for index in (0, 1))
    assert sent == [*first, *second]
    assert first[0]["id"] != second[0]["id"]
    for call in (first, second):
        assert call[0].keys() == {"index", "id", "type", "function"}
        assert call[0]["function"] == {"name": "f", "arguments": ""}
        assert all(later.keys() == {"index", "function"} for later in call[1:])
        fragments = [later["function"]["arguments"] for later in call[1:]]
        assert len(fragments) > 4
        assert "".join(fragments) == '{"a": 1}'


ANSWERS = [
    "hi",
    f"see{CALL}x{CALL}",
    "<tool_call>",
    f"<think>\nhm {CALL}\n</think>\n\nHi",
    f"<think>hm</think>{CALL}",
    "<think>hm",
    '<tool_call>{"name": "f", "arguments": {"a": ?',
]


@pytest.mark.parametrize("reason", [FinishReason.STOP, FinishReason.LENGTH])
@pytest.mark.parametrize("text", ANSWERS)
def test_a_whole_message_is_the_joined_stream(text: str, reason: FinishReason) -> None:
    """Content, reasoning, calls and the finish reason are equal in both."""
    whole, parts = message(text, TOOLS, reason), chunks(text, TOOLS, reason)
    joined: dict[str, str] = dict.fromkeys(("content", "reasoning_content", "reasoning"), "")
    calls: dict[int, list[str]] = {}
    for part in parts:
        delta = part.delta.model_dump(exclude_none=True)
        for name in joined:
            joined[name] += delta.get(name, "")
        for call in delta.get("tool_calls", []):
            function = calls.setdefault(call["index"], [call["function"].get("name", ""), ""])
            function[1] += call["function"]["arguments"]
    sent = whole.message
    assert joined["content"].strip() == (sent.content or "").strip()
    assert joined["reasoning"] == joined["reasoning_content"] == (sent.reasoning or "")
    assert sent.reasoning == sent.reasoning_content
    functions = [call.function for call in sent.tool_calls or []]
    assert [*calls.values()] == [[function.name, function.arguments] for function in functions]
    assert [part.finish_reason for part in parts if part.finish_reason] == [whole.finish_reason]


def test_reasoning_is_apart_from_content() -> None:
    """It is there under both names, without the white space around it, and calls in it are not calls."""
    sent = message(f"<think>\nhm {CALL}\n</think>\n\nHi", TOOLS)
    assert sent.message.model_dump(exclude_unset=True) == {
        "role": "assistant",
        "content": "Hi",
        "refusal": None,
        "reasoning_content": f"hm {CALL}",
        "reasoning": f"hm {CALL}",
    }
    assert sent.finish_reason == "stop"


@pytest.mark.parametrize(
    ("text", "is_open", "reasoning", "content"),
    [
        ("hm</think>Hi", True, "hm", "Hi"),
        ("<think>hm</think>Hi", True, "hm", "Hi"),
        ("hm", True, "hm", ""),
        ("</think>\nHi", True, None, "Hi"),
        ("<think>\n\n</think>\n\nHi", False, None, "Hi"),
        ("Hi <think>hm</think>", False, None, "Hi <think>hm</think>"),
        (" Hi", False, None, " Hi"),
        ("<thin", False, None, "<thin"),
    ],
)
def test_where_reasoning_begins(text: str, is_open: bool, reasoning: str | None, content: str) -> None:
    """The prompt or the answer's beginning opens it; what comes later is content. Empty reasoning is left
    out.
    """
    sent = message(text, options(has_tools=False, is_open=is_open)).message
    assert (sent.reasoning, sent.content) == (reasoning, content)


def test_reasoning_can_be_hidden() -> None:
    """Its tokens are counted in any case."""
    chosen = options(shows_reasoning=False)
    sent = message("<think>hm</think>Hi", chosen)
    assert (sent.message.content, sent.message.reasoning) == ("Hi", None)
    assert not any(part.delta.reasoning for part in chunks("<think>hm</think>Hi", chosen))


@pytest.mark.parametrize(("is_open", "expected"), [(True, 10), (False, 11)])
def test_tokens_of_reasoning_are_counted(is_open: bool, expected: int) -> None:
    """A token counts if the answer is within its reasoning before or after it, which includes the marks."""
    text = "hm</think>Hi" if is_open else "<think>hm</think>Hi"
    writer = ChatMessageWriter(0, options(is_open=is_open))
    for letter in text:
        writer.add(TextDelta(0, letter, token_ids=(ord(letter),)))
    assert writer.num_reasoning_tokens == expected


def test_text_after_the_reasoning_is_passed_on_as_it_is() -> None:
    """A model that reasons costs plain text nothing once its answer begins, unless there are tools."""
    for has_tools, is_plain in ((False, True), (True, False)):
        writer = ChatChunkWriter(0, options(has_tools=has_tools), ChatLogprobsWriter(TOKENIZER))
        reply = TextDelta(0, "<think>hm</think>Hi")
        assert not writer.writes_text_alone(reply)
        assert list(writer.write(reply))
        assert writer.writes_text_alone(TextDelta(0, "x")) == is_plain


@pytest.mark.parametrize("text", ["hi", f"see{CALL}x", "<tool_call>"])
def test_every_logprob_is_streamed_once(text: str) -> None:
    """This includes logprobs of text that is held back or becomes a call."""
    parts = chunks(text, options(logprobs=True))
    sent = [entry.token for part in parts if part.logprobs is not None for entry in part.logprobs.content]
    assert "".join(sent) == text


@pytest.mark.parametrize("parallel", [True, False])
def test_a_reply_may_end_after_its_first_call(parallel: bool) -> None:
    """Without parallel calls, nothing after the first call is part of the reply."""
    chosen = options(ends_after_call=not parallel)
    text = f"Let me see.{CALL}and{CALL}"
    choice = message(text, chosen, FinishReason.LENGTH)
    assert len(choice.message.tool_calls or []) == 1 + parallel
    assert choice.message.content == ("Let me see.and" if parallel else "Let me see.")
    parts = chunks(text, chosen)
    assert {call.index for part in parts for call in part.delta.tool_calls or []} == {*range(1 + parallel)}
    assert [part.finish_reason for part in parts if part.finish_reason] == ["tool_calls"]


def test_a_reply_without_a_call_ends_as_it_would() -> None:
    """Nothing is cut off if no tool is called."""
    assert message("no call", options(ends_after_call=True)).message.content == "no call"

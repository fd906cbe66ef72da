"""Chat completions of an engine, parsed with the types of OpenAI's client."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection
from typing import Any, ClassVar

import pytest
from openai.types import chat as openai_chat

from mlc_serve.api.async_engine import AsyncMLCEngine
from mlc_serve.errors import ContextLengthError, InvalidRequestError
from mlc_serve.frontend.chat_prompt import ChatPrompt, read_chat
from mlc_serve.loaded_model import GenerationDefaults
from mlc_serve.testing import EOS_ID, IM_START_ID, FakeBackend, replay
from mlc_serve.text.answer_form import AnswerForm
from mlc_serve.text.calls.call_format import Functions
from mlc_serve.text.calls.json_calls import json_calls
from mlc_serve.text.calls.lark import Lark
from mlc_serve.text.calls.marked_calls import marked_calls
from mlc_serve.text.calls.source import Reading, Source
from mlc_serve.text.reasoning import REASONING
from mlc_serve.text.templates.chat_template import ChatTemplate

Serve = Callable[..., AsyncMLCEngine]
CALL = b'<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>'
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
TOOL_TEMPLATE = ChatTemplate("{{ tools | tojson }}{{ messages[-1].content }}")


async def whole(engine: AsyncMLCEngine, **fields: Any) -> openai_chat.ChatCompletion:
    """Return the whole reply to `hi`."""
    fields.setdefault("messages", [{"role": "user", "content": "hi"}])
    reply = await engine.chat.completions.create(**fields)
    return openai_chat.ChatCompletion.model_validate_json(reply.to_json())


async def chunks(engine: AsyncMLCEngine, **fields: Any) -> list[openai_chat.ChatCompletionChunk]:
    """Return the chunks of the streamed reply to `hi`."""
    fields.setdefault("messages", [{"role": "user", "content": "hi"}])
    stream = await engine.chat.completions.create(stream=True, **fields)
    return [openai_chat.ChatCompletionChunk.model_validate_json(chunk.to_json()) async for chunk in stream]


def content(parts: list[openai_chat.ChatCompletionChunk], index: int = 0) -> str:
    """Return the streamed text of one choice."""
    choices = [choice for part in parts for choice in part.choices if choice.index == index]
    return "".join(choice.delta.content or "" for choice in choices)


async def test_whole_reply(serve: Serve) -> None:
    """A whole reply has text, finish reason and usage; the end token counts."""
    reply = await whole(serve("Grüße".encode()))
    (choice,) = reply.choices
    assert (choice.message.content, choice.finish_reason) == ("Grüße", "stop")
    assert reply.usage is not None
    assert reply.usage.completion_tokens == len("Grüße".encode()) + 1
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens


async def test_streamed_reply_is_the_whole_one_in_parts(serve: Serve) -> None:
    """A character that spans several tokens comes in one chunk, and only the last chunk has the usage."""
    parts = await chunks(serve("Grüße 👋".encode()), stream_options={"include_usage": True})
    assert content(parts) == "Grüße 👋"
    assert parts[0].choices[0].delta.role == "assistant"
    assert parts[-2].choices[0].finish_reason == "stop"
    assert parts[-1].choices == []
    assert [part.usage is not None for part in parts] == [False] * (len(parts) - 1) + [True]
    assert len({part.id for part in parts}) == 1


async def test_choices_are_told_apart_and_have_seeds_of_their_own(serve: Serve) -> None:
    """Three choices of one request equal the replies to three consecutive seeds."""
    engine = serve()
    fields: dict[str, Any] = {"max_tokens": 6, "temperature": 1}
    three = await whole(engine, n=3, seed=5, **fields)
    singles = [await whole(engine, seed=seed, **fields) for seed in (5, 6, 7)]
    texts = [choice.message.content for choice in three.choices]
    assert texts == [single.choices[0].message.content for single in singles]
    assert len(set(texts)) > 1
    streamed = await chunks(engine, n=3, seed=5, **fields)
    assert [content(streamed, i) for i in range(3)] == texts


async def test_prompt_that_was_seen_before_is_cached(serve: Serve) -> None:
    """Usage says how much of the prompt was cached."""
    engine = serve(b"ok")
    counts = []
    for _ in range(2):
        usage = (await whole(engine)).usage
        assert usage is not None
        assert usage.prompt_tokens_details is not None
        counts.append(usage.prompt_tokens_details.cached_tokens or 0)
    assert counts[0] == 0
    assert counts[1] > 0


async def test_stop_strings_of_template_and_client_end_the_reply(serve: Serve) -> None:
    """Stop strings are found across tokens, in streams as well."""
    defaults = GenerationDefaults(eos_token_ids=frozenset({EOS_ID}), stop=("</end>",))
    engine = serve(b"one two</end> three", defaults=defaults)
    assert (await whole(engine)).choices[0].message.content == "one two"
    parts = await chunks(engine, stop=["e t"])
    assert content(parts) == "on"
    assert parts[-1].choices[0].finish_reason == "stop"


async def test_ignore_eos_goes_on_to_max_tokens(serve: Serve) -> None:
    """With ignore_eos, end tokens do not end the reply, and as special tokens they are not shown."""
    reply = await whole(serve(b"ab"), ignore_eos=True, max_tokens=5)
    assert (reply.choices[0].message.content, reply.choices[0].finish_reason) == ("ab", "length")
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 5


async def test_reply_ends_where_the_context_is_full(serve: Serve) -> None:
    """If max_tokens exceeds the context, the reply ends with `length` where the context is full."""
    engine = serve()
    reply = await whole(engine, max_tokens=10**6)
    assert reply.choices[0].finish_reason == "length"
    assert reply.usage is not None
    assert reply.usage.total_tokens == engine.limits.max_single_sequence_length


async def test_logprobs_cover_every_token(serve: Serve) -> None:
    """Whole and streamed replies have a logprob for every token."""
    engine = serve("né".encode())
    fields: dict[str, Any] = {"logprobs": True, "top_logprobs": 2, "stop": "zz"}
    reply = await whole(engine, **fields)
    assert reply.choices[0].logprobs is not None
    entries = reply.choices[0].logprobs.content or []
    assert bytes(byte for entry in entries for byte in entry.bytes or []) == "né".encode()
    assert [len(entry.top_logprobs) for entry in entries] == [2, 2, 2]
    parts = await chunks(engine, **fields)
    streamed = [entry for part in parts for choice in part.choices
                if choice.logprobs is not None for entry in choice.logprobs.content or []]  # fmt: skip
    assert streamed == entries


async def test_tool_call(serve: Serve) -> None:
    """Tool calls are parsed from whole and streamed replies."""
    engine = serve(CALL, chat_template=TOOL_TEMPLATE)
    choice = (await whole(engine, tools=[TOOL])).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls is not None
    assert choice.message.tool_calls[0].type == "function"
    parts = await chunks(engine, tools=[TOOL])
    calls = [call for part in parts for call in part.choices[0].delta.tool_calls or []]
    assert "".join((call.function.arguments or "") if call.function else "" for call in calls) == '{"a": 1}'
    assert parts[-1].choices[0].finish_reason == "tool_calls"


async def test_a_call_may_be_streamed_before_it_is_whole(serve: Serve) -> None:
    """A call that max_tokens cuts off has the arguments so far, streamed or not, and ends with length."""
    engine = serve(CALL, chat_template=TOOL_TEMPLATE)
    limit = len(CALL) - len("}}</tool_call>") - 1
    (choice,) = (await whole(engine, tools=[TOOL], max_tokens=limit)).choices
    (call,) = choice.message.tool_calls or []
    assert call.type == "function"
    assert (call.function.arguments, choice.finish_reason) == ('{"a": ', "length")
    parts = await chunks(engine, tools=[TOOL], max_tokens=limit)
    calls = [call for part in parts for call in part.choices[0].delta.tool_calls or []]
    assert "".join(call.function.arguments or "" for call in calls if call.function) == '{"a": '
    assert parts[-1].choices[0].finish_reason == "length"


async def test_tools_need_no_place_in_the_template(serve: Serve) -> None:
    """The server describes them itself, and reads calls with and without tags."""
    for script in (CALL, CALL.removeprefix(b"<tool_call>")):
        engine = serve(script, chat_template=ChatTemplate("{{ messages[0].content }}"))
        plain = await whole(engine, max_tokens=1)
        (choice,) = (reply := await whole(engine, tools=[TOOL])).choices
        assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
        assert plain.usage is not None
        assert reply.usage is not None
        assert reply.usage.prompt_tokens > plain.usage.prompt_tokens + 100


async def test_a_special_token_may_begin_a_call(serve: Serve) -> None:
    """The format's special tokens reach the parser although they are no part of a text, and only then."""
    script = (*b"See: ", IM_START_ID, *CALL[len(b"<tool_call>") : -len(b"</tool_call>")])
    backend = FakeBackend(choose=replay(script))
    engine = serve(backend=backend, chat_template=TOOL_TEMPLATE, answers=AnswerForm(MarkedCalls()))
    (choice,) = (await whole(engine, tools=[TOOL])).choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", "See: ")
    (choice,) = (await whole(engine)).choices
    assert choice.message.content == bytes(byte for byte in script if byte < 256).decode()


class MarkedCalls:
    """Calls that begin with a special token."""

    special_texts: ClassVar[Collection[str]] = ("<|im_start|>",)
    begin: ClassVar[str | None] = "<|im_start|>"

    def read(self, source: Source, functions: Functions) -> Reading[None]:
        return marked_calls(source, "<|im_start|>", lambda: json_calls(source, ("</tool_call>",)))

    def rules(self, functions: Functions, lark: Lark, *, lead: str, parallel: bool) -> str:
        raise AssertionError("no call is forced here")


THINKING = AnswerForm(reasoning=REASONING["think"])


@pytest.mark.parametrize("opens", [True, False])
async def test_reasoning_is_split_and_counted(serve: Serve, opens: bool) -> None:
    """The prompt or the reply opens it. It is counted among the output tokens, also if it is hidden."""
    template = ChatTemplate("{{ messages[0].content }}" + "<think>\n" * opens)
    said = b"hm</think>Hello" if opens else b"<think>hm</think>Hello"
    engine = serve(said, chat_template=template, answers=THINKING)
    fields: dict[str, Any] = {"stream_options": {"include_usage": True}}
    for shows in (True, False):
        reply = await whole(engine, include_reasoning=shows)
        parts = await chunks(engine, include_reasoning=shows, **fields)
        deltas = [choice.delta.model_dump() for part in parts for choice in part.choices]
        joined = [
            "".join(delta.get(name) or "" for delta in deltas) for name in ("reasoning", "reasoning_content")
        ]
        assert joined == ["hm" * shows] * 2
        assert content(parts) == reply.choices[0].message.content == "Hello"
        assert reply.choices[0].message.model_dump().get("reasoning_content", "") == "hm" * shows
        for usage in (reply.usage, parts[-1].usage):
            assert usage is not None
            assert usage.completion_tokens_details is not None
            assert usage.completion_tokens_details.reasoning_tokens == len("hm</think>") + (not opens)


async def test_a_message_is_continued_within_its_reasoning(serve: Serve) -> None:
    """If it ends there."""
    engine = serve(b"b</think>c", answers=THINKING)
    for begun, expected in (("<think>a", "b"), ("<think>a</think>", None)):
        messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": begun}]
        (choice,) = (await whole(engine, messages=messages, continue_final_message=True)).choices
        assert choice.message.model_dump().get("reasoning") == expected


CITY_TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Oslo", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


@pytest.mark.parametrize(
    "choice",
    [
        "required",
        {"type": "function", "function": {"name": "weather"}},
        {"type": "function", "name": "weather"},
    ],
)
async def test_a_forced_call_is_made_by_any_model(serve: Serve, choice: Any) -> None:
    """A model that writes random letters calls the tool with arguments of its schema, whole or streamed."""
    engine = serve()
    tools = [CITY_TOOL] if choice == "required" else [TOOL, CITY_TOOL]
    fields: dict[str, Any] = {"tools": tools, "tool_choice": choice, "parallel_tool_calls": False, "seed": 3}
    (whole_choice,) = (await whole(engine, **fields)).choices
    assert whole_choice.finish_reason == "tool_calls"
    assert whole_choice.message.content is None
    (call,) = whole_choice.message.tool_calls or []
    assert isinstance(call, openai_chat.ChatCompletionMessageFunctionToolCall)
    assert call.function.name == "weather"
    assert json.loads(call.function.arguments)["city"] in ("Oslo", "Rome")
    deltas = [
        delta
        for chunk in await chunks(engine, **fields)
        for part in chunk.choices
        for delta in part.delta.tool_calls or []
    ]
    assert {delta.index for delta in deltas} == {0}
    assert [delta.id is not None for delta in deltas] == [True] + [False] * (len(deltas) - 1)
    streamed = "".join(delta.function.arguments or "" for delta in deltas if delta.function)
    assert streamed == call.function.arguments


async def test_reasoning_is_cut_at_its_limit(serve: Serve) -> None:
    """The end mark is written for the model, and then the answer has the form that was asked for."""
    engine = serve(b"<think>One tw" + b"o three " + b"yes", answers=AnswerForm(reasoning=REASONING["think"]))
    fields: dict[str, Any] = {"max_reasoning_tokens": 6, "structured_outputs": {"choice": ["yes"]}}
    (choice,) = (await whole(engine, **fields)).choices
    assert choice.message.model_dump()["reasoning_content"] == "One tw"
    assert (choice.message.content, choice.finish_reason) == ("yes", "stop")


async def test_no_tool_is_called_where_none_may_be(serve: Serve) -> None:
    """If no tools are offered, a call in the reply stays text."""
    choice = (await whole(serve(CALL), tools=[TOOL], tool_choice="none")).choices[0]
    assert (choice.message.content, choice.finish_reason) == (CALL.decode(), "stop")


async def test_reply_can_go_back_into_the_conversation(serve: Serve) -> None:
    """The message object of a reply can be sent again as it is."""
    engine = serve(b"hello")
    first = await engine.chat.completions.create(messages=[{"role": "user", "content": "hi"}])
    messages = [
        {"role": "user", "content": "hi"},
        first.choices[0].message,
        {"role": "user", "content": "more"},
    ]
    assert (await whole(engine, messages=messages)).choices[0].message.content == "hello"


@pytest.mark.parametrize("stream", [True, False])
async def test_without_parallel_calls_nothing_is_computed_after_the_first(serve: Serve, stream: bool) -> None:
    """The engine is stopped after the first call, so that usage counts little more than the call."""
    engine = serve(CALL * 20, chat_template=TOOL_TEMPLATE)
    fields: dict[str, Any] = {"tools": [TOOL], "parallel_tool_calls": False, "max_tokens": 20 * len(CALL)}
    if stream:
        parts = await chunks(engine, **fields, stream_options={"include_usage": True})
        called = [call.index for part in parts for c in part.choices for call in c.delta.tool_calls or []]
        usage, ends = parts[-1].usage, [c.finish_reason for part in parts for c in part.choices][-1:]
    else:
        reply = await whole(engine, **fields)
        called = [number for number, _ in enumerate(reply.choices[0].message.tool_calls or [])]
        usage, ends = reply.usage, [reply.choices[0].finish_reason]
    assert (set(called), ends) == ({0}, ["tool_calls"])
    assert usage is not None
    assert usage.completion_tokens < 10 * len(CALL)


async def test_usage_may_come_with_every_chunk(serve: Serve) -> None:
    """Usage grows with the reply, and the last chunk has only usage."""
    parts = await chunks(serve(b"Hello"), stream_options={"continuous_usage_stats": True})
    counts = [part.usage.completion_tokens for part in parts if part.usage is not None]
    assert len(counts) == len(parts)
    assert counts == sorted(counts)
    assert (len(set(counts)), counts[-1], parts[-1].choices) == (6, 6, [])


async def test_a_stop_string_may_be_part_of_the_text(serve: Serve) -> None:
    """With include_stop_str_in_output, the text ends with the stop string that ended it."""
    reply = await whole(serve(b"Hello, world"), stop=[", w"], include_stop_str_in_output=True)
    assert (reply.choices[0].message.content, reply.choices[0].finish_reason) == ("Hello, w", "stop")


async def test_an_overlong_prompt_is_told_in_the_words_that_clients_look_for(serve: Serve) -> None:
    """The error has the words by which frameworks know that they must shorten the conversation."""
    messages = [{"role": "user", "content": "x" * 100_000}]
    with pytest.raises(ContextLengthError, match="maximum context length"):
        await whole(serve(b""), messages=messages)


async def test_bad_request_is_refused_before_anything_is_opened(serve: Serve) -> None:
    """`create` itself raises, for streams as well."""
    engine = serve()
    for stream in (False, True):
        with pytest.raises(InvalidRequestError, match="logit_bias"):
            await engine.chat.completions.create(
                messages=[{"role": "user", "content": "hi"}], stream=stream, logit_bias={"999": 1}
            )
    assert engine.num_open == 0


@pytest.mark.parametrize(("turns", "is_quick"), [(10, True), (100_000, False)])
async def test_a_template_that_works_long_does_so_elsewhere(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, turns: int, is_quick: bool
) -> None:
    """A template that takes many steps is given up on the event loop and rendered again on another thread."""
    source = f"{{% for i in range({turns}) %}}{{% endfor %}}{{{{ messages[0].content }}}}"
    threads = []

    def noted(*arguments: Any) -> ChatPrompt:
        threads.append(threading.current_thread())
        return read_chat(*arguments)

    monkeypatch.setattr("mlc_serve.api.chat_completions.read_chat", noted)
    reply = await whole(serve(b"Hello", chat_template=ChatTemplate(source)))
    assert reply.choices[0].message.content == "Hello"
    assert (threads[-1] is threading.current_thread()) == is_quick

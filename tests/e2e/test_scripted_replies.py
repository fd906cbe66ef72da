"""Replies that a model could give, as OpenAI's SDK receives them: tool calls, and what ends a text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.e2e.attacks.server import attacked_server
from tests.scripted_checkpoint import Reply, write_scripted_checkpoint

WEATHER = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}'
DEEP = "[" * 300 + "]" * 300

REPLIES: dict[str, Reply] = {
    "usual": f"{WEATHER}\n</tool_call>",
    "unclosed": f"Let me see.\n{WEATHER}",
    "quoted": '<tool_call>{"name": "weather", "arguments": {"city": "</tool_call>"}}</tool_call> There.',
    "llama": '<tool_call>{"name": "weather", "parameters": {"city": "Bergen"}}</tool_call>',
    "escapes": '<tool_call>{"name": "weather", "arguments": {"city": "\\ud83d", "at": NaN, "to": 1e999}}',
    "nested": f'<tool_call>{{"name": "weather", "arguments": {{"city": {DEEP}}}}}</tool_call>',
    "cut off": ['<tool_call>{"name": "weather', '", "arguments": {}}', "</tool_call>And", " more"],
    "broken": '<tool_call>{"name": "weather", "arguments": {"city": "Os</tool_call>',
    "thinks": '<think>\nNo <tool_call>{"name": "f"}</tool_call> yet.\n</think>\n\nIt is wet.',
    "turns": ["One.", "<|tool|>", "Two."],
}
TOOLS: Any = [
    {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    """The SDK, connected to a server of the scripted model."""
    path = write_scripted_checkpoint(tmp_path_factory.mktemp("scripted") / "model", REPLIES)
    with (
        attacked_server(path, "--reasoning-parser", "think") as server,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as sdk,
    ):
        yield sdk


@pytest.fixture
def model(client: openai.OpenAI) -> str:
    """The name of the scripted model."""
    (only,) = client.models.list().data
    return only.id


@pytest.mark.parametrize(
    ("key", "arguments", "content"),
    [
        ("usual", {"city": "Oslo"}, None),
        ("unclosed", {"city": "Oslo"}, "Let me see.\n"),
        ("quoted", {"city": "</tool_call>"}, "There."),
        ("llama", {"city": "Bergen"}, None),
        ("escapes", {"city": "\ufffd", "at": None, "to": None}, None),
        ("nested", {"city": json.loads(DEEP)}, None),
    ],
)
def test_a_call_arrives(
    client: openai.OpenAI, model: str, key: str, arguments: dict[str, Any], content: str | None
) -> None:
    """A tool call arrives whole and as a stream, with arguments that any JSON parser reads."""
    asked: Any = {"model": model, "messages": [{"role": "user", "content": key}], "tools": TOOLS}
    (choice,) = client.chat.completions.create(**asked).choices
    (call,) = choice.message.tool_calls or []
    assert call.type == "function"
    assert call.function.name == "weather"
    assert json.loads(call.function.arguments, parse_constant=pytest.fail) == arguments
    assert (choice.message.content, choice.finish_reason) == (content, "tool_calls")

    with client.chat.completions.stream(**asked) as stream:
        streamed = stream.get_final_completion().choices[0]
    (same,) = streamed.message.tool_calls or []
    assert (same.function.name, same.function.arguments) == (call.function.name, call.function.arguments)
    assert (streamed.message.content or None, streamed.finish_reason) == (content, "tool_calls")


@pytest.mark.parametrize(("max_tokens", "num_calls", "end"), [(1, 0, "length"), (2, 1, "tool_calls")])
def test_a_call_is_whole_when_its_json_is(
    client: openai.OpenAI, model: str, max_tokens: int, num_calls: int, end: str
) -> None:
    """A call may lose its end tag to max_tokens; if its JSON is cut off, it is text with finish length."""
    (choice,) = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "cut off"}], tools=TOOLS, max_tokens=max_tokens
    ).choices
    assert len(choice.message.tool_calls or []) == num_calls
    assert choice.message.content == (None if num_calls else '<tool_call>{"name": "weather')
    assert choice.finish_reason == end


def test_a_stop_string_may_cut_the_end_tag_off(client: openai.OpenAI, model: str) -> None:
    """A call whose end tag is cut off by a stop string is still a call."""
    (choice,) = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "usual"}], tools=TOOLS, stop="</tool_call>"
    ).choices
    assert len(choice.message.tool_calls or []) == 1
    assert choice.finish_reason == "tool_calls"


def test_a_call_that_breaks_is_passed_on(client: openai.OpenAI, model: str) -> None:
    """The client sees what the model wrote, since its beginning was streamed before the end was known."""
    (choice,) = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "broken"}], tools=TOOLS
    ).choices
    (call,) = choice.message.tool_calls or []
    assert call.type == "function"
    assert call.function.arguments == '{"city": "Os</tool_call>'
    assert choice.finish_reason == "tool_calls"


def test_reasoning_is_apart_from_the_answer(client: openai.OpenAI, model: str) -> None:
    """Whole and streamed replies have it under both names, its tokens are counted, and nothing is called."""
    asked: Any = {"model": model, "messages": [{"role": "user", "content": "thinks"}], "tools": TOOLS}
    reply = client.chat.completions.create(**asked)
    message = reply.choices[0].message
    thought = 'No <tool_call>{"name": "f"}</tool_call> yet.'
    assert (message.content, message.tool_calls) == ("It is wet.", None)
    assert message.model_extra == {"reasoning": thought, "reasoning_content": thought}
    assert reply.usage is not None
    assert reply.usage.completion_tokens_details is not None
    assert 0 < (reply.usage.completion_tokens_details.reasoning_tokens or 0) < reply.usage.completion_tokens

    chunks = list(client.chat.completions.create(stream=True, **asked))
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    extras = [delta.model_extra or {} for delta in deltas]
    assert "".join(extra.get("reasoning_content", "") for extra in extras) == thought
    assert "".join(extra.get("reasoning", "") for extra in extras) == thought
    assert "".join(delta.content or "" for delta in deltas) == "It is wet."


@pytest.mark.parametrize(
    ("stop", "text"), [(None, "One.Two."), ("<|tool|>", "One."), (".<|tool|>T", "One"), ("tool", "One.Two.")]
)
def test_the_name_of_a_special_token_stops_a_completion(
    client: openai.OpenAI, model: str, stop: str | None, text: str
) -> None:
    """The name, which is not shown, stops a completion, as base models end their turns in no other way."""
    given: Any = {} if stop is None else {"stop": [stop]}
    (choice,) = client.completions.create(model=model, prompt="turns", max_tokens=9, **given).choices
    assert (choice.text, choice.finish_reason) == (text, "stop")

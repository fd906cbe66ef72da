"""Anthropic's own Python SDK with a server on a socket: what it parses, accumulates and raises."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from pydantic import BaseModel

from mlc_serve.testing import replay
from tests.e2e.live_server import live_server

MESSAGES: Any = [{"role": "user", "content": "Hello"}]
# Some versions of the SDK have no parameters for sampling.
SAMPLING: Any = {"temperature": 0}
GREEDY: Any = {"model": "fake", "messages": MESSAGES, "max_tokens": 8, "extra_body": SAMPLING}
TOOLS: Any = [
    {
        "name": "weather",
        "description": "Tells the weather.",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
    }
]


class Capital(BaseModel):
    """The capital of a country."""

    capital: str


CALL = b'Let me see.<tool_call>{"name": "weather", "arguments": {"city": "Oslo"}}</tool_call>'


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The base URL of a server that all tests share."""
    with live_server() as server:
        yield server.url


@pytest.fixture
def client(url: str) -> Iterator[Any]:
    """The SDK, without retries that would hide failures."""
    with anthropic.Anthropic(base_url=url, api_key="any", max_retries=0) as sdk:
        yield sdk


@pytest.mark.client("anthropic", "messages.create and messages.count_tokens")
def test_message(client: Any) -> None:
    """A message parses, and the usage agrees with the tokens that were counted before."""
    counted = client.messages.count_tokens(model="fake", messages=MESSAGES)
    message = client.messages.create(**GREEDY)
    (block,) = message.content
    assert (block.type, len(block.text), message.stop_reason) == ("text", 8, "max_tokens")
    assert (message.usage.input_tokens, message.usage.output_tokens) == (counted.input_tokens, 8)
    assert message._request_id in message.id


@pytest.mark.client("anthropic", "messages.stream")
def test_the_stream_helper_accumulates_the_message(client: Any) -> None:
    """The SDK's helper builds the whole message from the events, with its text, its end and its usage."""
    whole = client.messages.create(**GREEDY, stop_sequences=["never"])
    with client.messages.stream(**GREEDY) as stream:
        text = "".join(stream.text_stream)
        message = stream.get_final_message()
    assert text == message.content[0].text == whole.content[0].text
    assert (message.stop_reason, message.usage) == (whole.stop_reason, whole.usage)


@pytest.mark.client("anthropic", "messages.create(stream=True)")
def test_the_raw_events(client: Any) -> None:
    """Events that are iterated one by one come in Anthropic's order."""
    kinds = [event.type for event in client.messages.create(**GREEDY, stream=True)]
    assert [kinds[0], *kinds[-2:]] == ["message_start", "message_delta", "message_stop"]
    assert kinds.count("content_block_start") == kinds.count("content_block_stop") == 1


@pytest.mark.client("anthropic", "stop_sequences")
def test_the_stop_sequence(client: Any) -> None:
    """The SDK shows which stop sequence ended the message, whole or streamed."""
    text = client.messages.create(**GREEDY).content[0].text
    asked = {**GREEDY, "stop_sequences": [text[-1]]}
    with client.messages.stream(**asked) as stream:
        streamed = stream.get_final_message()
    for message in (client.messages.create(**asked), streamed):
        assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", text[-1])


@pytest.mark.client("anthropic", "tools, whole and streamed, and their results")
def test_a_tool_is_called_and_answered() -> None:
    """A call is parsed, whole or streamed, and the SDK's own blocks are accepted in the history."""
    with (
        live_server(replay(CALL)) as server,
        anthropic.Anthropic(base_url=server.url, api_key="any", max_retries=0) as client,
    ):
        asked = {**GREEDY, "max_tokens": 200, "tools": TOOLS, "tool_choice": {"type": "auto"}}
        with client.messages.stream(**asked) as stream:
            streamed = stream.get_final_message()
        message = client.messages.create(**asked)
        for reply in (message, streamed):
            text, call = reply.content
            assert (text.text, call.name, call.input) == ("Let me see.", "weather", {"city": "Oslo"})
            assert reply.stop_reason == "tool_use"
        result = {"type": "tool_result", "tool_use_id": message.content[1].id, "content": "Rain."}
        history = [
            *MESSAGES,
            {"role": "assistant", "content": message.content},
            {"role": "user", "content": [result]},
        ]
        again = client.messages.create(**{**asked, "messages": history})
    assert again.role == "assistant"


@pytest.mark.client("anthropic", "beta.messages.tool_runner with beta_tool")
def test_the_runner_of_tools(demo_server: str) -> None:
    """The SDK's runner first asks for a thread; when that is refused it sends all messages, and goes on."""

    @anthropic.beta_tool
    def get_weather(city: str) -> str:
        """Get the current weather in a city"""
        return f"{city}: sunny, 21 degrees"

    question: Any = [{"role": "user", "content": "What is the weather in Paris?"}]
    with anthropic.Anthropic(base_url=demo_server, api_key="any", max_retries=0) as client:
        called, told = client.beta.messages.tool_runner(
            model="demo", max_tokens=100, tools=[get_weather], messages=question
        )
    assert called.content[0].input == {"city": "Paris"}
    assert told.content[0].text


@pytest.mark.client("anthropic", "messages.parse")
def test_a_parsed_message(demo_server: str) -> None:
    """The SDK makes an object of the message."""
    question: Any = [{"role": "user", "content": "What is the capital of France? Answer as JSON."}]
    with anthropic.Anthropic(base_url=demo_server, api_key="any", max_retries=0) as client:
        message = client.messages.parse(
            model="demo", max_tokens=100, messages=question, output_format=Capital
        )
    assert isinstance(message.parsed_output, Capital)


@pytest.mark.client("anthropic", "beta.messages.create")
def test_the_beta_client(client: Any) -> None:
    """Requests of the SDK's beta part, with their header and query, are answered as others are."""
    message = client.beta.messages.create(**GREEDY, betas=["interleaved-thinking-2025-05-14"])
    assert len(message.content[0].text) == 8


@pytest.mark.client("anthropic", "models.list and models.retrieve")
def test_models(client: Any) -> None:
    """The SDK lists and retrieves models, and finds no further page."""
    (model,) = list(client.models.list())
    assert (model.id, model.type, model.display_name) == ("fake", "model", "fake")
    assert client.models.retrieve("fake") == model


@pytest.mark.client("anthropic", "exceptions")
def test_errors_are_the_sdks_own(client: Any) -> None:
    """Refusals arrive as the SDK's exceptions, with type, message and request id."""
    with pytest.raises(anthropic.NotFoundError) as unknown:
        client.messages.create(**{**GREEDY, "model": "claude"})
    assert unknown.value.body["error"]["type"] == "not_found_error"
    assert unknown.value.request_id == unknown.value.body["request_id"]
    with pytest.raises(anthropic.BadRequestError, match="prompt is too long"):
        client.messages.create(**{**GREEDY, "messages": [{"role": "user", "content": "x" * 2000}]})


@pytest.mark.client("anthropic", "exceptions within a stream")
def test_a_failure_within_a_stream_is_raised() -> None:
    """An error event becomes the SDK's exception, after the text that came before it."""
    with (
        live_server(replay(b"abc")) as server,
        anthropic.Anthropic(base_url=server.url, api_key="any", max_retries=0) as client,
    ):
        server.backend.fail_on = set(b"c")
        with pytest.raises(anthropic.APIStatusError, match="failed"):
            list(client.messages.create(**GREEDY, stream=True))


@pytest.mark.client("anthropic", "AsyncAnthropic, leaving a stream")
async def test_leaving_a_stream_ends_the_request() -> None:
    """Closing a stream early aborts the generation."""
    with live_server() as server:
        async with anthropic.AsyncAnthropic(base_url=server.url, api_key="any", max_retries=0) as client:
            stream = await client.messages.create(**{**GREEDY, "max_tokens": 900}, stream=True)
            await anext(aiter(stream))
            await stream.close()
        assert server.freed.wait(60)

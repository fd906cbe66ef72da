"""OpenAI's own Python SDK with a server on a socket: what it parses, iterates and raises."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.e2e.live_server import live_server

MESSAGES: Any = [{"role": "user", "content": "Hello"}]
GREEDY: Any = {"model": "fake", "messages": MESSAGES, "max_tokens": 8, "temperature": 0}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The base URL of a server that all tests share."""
    with live_server() as server:
        yield f"{server.url}/v1"


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    """The SDK, without retries that would hide failures."""
    with openai.OpenAI(base_url=url, api_key="any", max_retries=0) as sdk:
        yield sdk


def test_models(client: openai.OpenAI) -> None:
    """The SDK lists and retrieves models."""
    (model,) = client.models.list().data
    assert (model.id, model.owned_by) == ("fake", "MLC-LLM")
    assert client.models.retrieve("fake") == model


def test_chat(client: openai.OpenAI) -> None:
    """A chat reply parses, with usage and details."""
    reply = client.chat.completions.create(**GREEDY)
    assert reply.choices[0].message.role == "assistant"
    assert len(reply.choices[0].message.content or "") == 8
    assert reply.choices[0].finish_reason == "length"
    assert reply.usage is not None
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + 8
    assert reply.usage.prompt_tokens_details is not None


def test_chat_stream(client: openai.OpenAI) -> None:
    """A stream iterates to the same text; its first chunk has the role, its last the usage."""
    whole = client.chat.completions.create(**GREEDY).choices[0].message.content
    chunks = list(
        client.chat.completions.create(**GREEDY, stream=True, stream_options={"include_usage": True})
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == whole
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 8


def test_chat_stream_helper(client: openai.OpenAI) -> None:
    """The SDK's accumulating helper builds the whole reply from the stream."""
    text = client.chat.completions.create(**GREEDY).choices[0].message.content or ""
    with client.chat.completions.stream(**GREEDY, stop=text[-1]) as stream:
        reply = stream.get_final_completion()
    assert reply.choices[0].finish_reason == "stop"
    assert reply.choices[0].message.content == text[: text.index(text[-1])]


def test_chat_logprobs(client: openai.OpenAI) -> None:
    """Each token comes with its logprob and the alternatives asked for."""
    reply = client.chat.completions.create(**GREEDY, logprobs=True, top_logprobs=3)
    assert reply.choices[0].logprobs is not None
    content = reply.choices[0].logprobs.content or []
    assert "".join(entry.token for entry in content) == reply.choices[0].message.content
    assert all(len(entry.top_logprobs) == 3 for entry in content)


def test_functions_as_the_sdk_makes_them(client: openai.OpenAI) -> None:
    """Functions that the SDK's helper marks as strict are accepted, and so is a reply's message."""

    class Weather(BaseModel):
        city: str

    tools = [openai.pydantic_function_tool(Weather)]
    reply = client.chat.completions.create(**GREEDY, tools=tools, parallel_tool_calls=False)
    history: Any = [*MESSAGES, reply.choices[0].message, *MESSAGES]
    again = client.chat.completions.create(**{**GREEDY, "messages": history}, tools=tools, stop="", top_p=0)
    assert again.choices[0].message.role == "assistant"


def test_usage_with_every_chunk(client: openai.OpenAI) -> None:
    """Every chunk has the usage so far if the client asks for it, as benchmarks do to count tokens."""
    options: Any = {"include_usage": True, "continuous_usage_stats": True}
    chunks = list(client.chat.completions.create(**GREEDY, stream=True, stream_options=options))
    counts = [chunk.usage.completion_tokens for chunk in chunks if chunk.usage]
    assert (len(counts), counts) == (len(chunks), sorted(counts))
    assert counts[-1] == 8


def test_choices(client: openai.OpenAI) -> None:
    """`n` choices come back, in order."""
    reply = client.chat.completions.create(**GREEDY, n=3)
    assert [choice.index for choice in reply.choices] == [0, 1, 2]


def test_completion(client: openai.OpenAI) -> None:
    """A raw completion parses, with echo and logprobs."""
    reply = client.completions.create(model="fake", prompt="Hello", max_tokens=4, echo=True, logprobs=2)
    assert reply.choices[0].text.startswith("Hello")
    assert reply.choices[0].logprobs is not None
    assert "".join(reply.choices[0].logprobs.tokens or []).endswith(reply.choices[0].text)


def test_completion_stream(client: openai.OpenAI) -> None:
    """A stream of raw completions adds up to the whole reply, for each of several prompts."""
    arguments: Any = {"model": "fake", "prompt": ["Hello", "Bye"], "max_tokens": 6, "temperature": 0}
    whole = {choice.index: choice.text for choice in client.completions.create(**arguments).choices}
    parts = {0: "", 1: ""}
    for chunk in client.completions.create(**arguments, stream=True):
        for choice in chunk.choices:
            parts[choice.index] += choice.text
    assert parts == whole


def test_errors_are_the_sdks_own(client: openai.OpenAI) -> None:
    """Refusals arrive as the SDK's exceptions, with param and code."""
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(**{**GREEDY, "model": "gpt-4"})
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as invalid:
        client.chat.completions.create(**{**GREEDY, "temperature": -1})
    assert invalid.value.param == "temperature"
    assert invalid.value.type == "invalid_request_error"


async def test_async_streams_side_by_side(url: str) -> None:
    """Many streams at once each get their own text."""

    async def collect(sdk: openai.AsyncOpenAI, prompt: str) -> str:
        stream = await sdk.completions.create(
            model="fake", prompt=prompt, max_tokens=20, temperature=0, stream=True
        )
        return "".join([chunk.choices[0].text async for chunk in stream])

    prompts = [f"Prompt {number}" for number in range(16)]
    async with openai.AsyncOpenAI(base_url=url, api_key="any", max_retries=0) as sdk:
        together = await asyncio.gather(*(collect(sdk, prompt) for prompt in prompts))
        alone = [await collect(sdk, prompt) for prompt in prompts]
    assert together == alone
    assert len(set(together)) == len(prompts)


async def test_async_client_may_leave(url: str) -> None:
    """Closing a stream early leaves the client and the server usable."""
    async with openai.AsyncOpenAI(base_url=url, api_key="any", max_retries=0) as sdk:
        async with await sdk.completions.create(
            model="fake", prompt="x", max_tokens=500, stream=True
        ) as stream:
            await anext(aiter(stream))
        reply = await sdk.completions.create(model="fake", prompt="x", max_tokens=1)
    assert len(reply.choices) == 1

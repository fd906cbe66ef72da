"""OpenAI's own SDK with a server of the demo model; tests/e2e tries more of it with a fake model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel, Field

QUESTION: Any = [{"role": "user", "content": "What is the capital of France?"}]
AS_JSON: Any = [{"role": "user", "content": "What is the capital of France? Answer as JSON."}]
WEATHER: Any = [{"role": "user", "content": "What is the weather in Paris?"}]
PARIS = "The capital of France is Paris."


class Capital(BaseModel):
    """The capital of a country."""

    capital: str


class GetWeather(BaseModel):
    """Get the current weather in a city"""

    city: str = Field(max_length=20)


TOOL = openai.pydantic_function_tool(GetWeather, name="get_weather")
FLAT_TOOL: Any = {"type": "function", **TOOL["function"]}


@pytest.fixture
def client(demo_url: str) -> Iterator[openai.OpenAI]:
    """The SDK, without retries that would hide failures."""
    with openai.OpenAI(base_url=demo_url, api_key="any", max_retries=0) as sdk:
        yield sdk


@pytest.mark.client("openai", "chat.completions.create and chat.completions.stream")
def test_chat(client: openai.OpenAI) -> None:
    """A whole reply and a streamed one have the same text."""
    reply = client.chat.completions.create(model="demo", messages=QUESTION, temperature=0)
    with client.chat.completions.stream(model="demo", messages=QUESTION, temperature=0) as stream:
        streamed = stream.get_final_completion()
    assert reply.choices[0].message.content == streamed.choices[0].message.content == PARIS


@pytest.mark.client("openai", "completions.create, whole and streamed")
def test_completions(client: openai.OpenAI) -> None:
    """A raw completion and its stream have the same text."""
    asked: Any = {"model": "demo", "prompt": "Hello", "max_tokens": 8, "temperature": 0}
    text = client.completions.create(**asked).choices[0].text
    assert text
    assert "".join(chunk.choices[0].text for chunk in client.completions.create(**asked, stream=True)) == text


@pytest.mark.client("openai", "responses.create and responses.stream")
def test_responses(client: openai.OpenAI) -> None:
    """A whole response and a streamed one have the same text."""
    whole = client.responses.create(model="demo", input=QUESTION, temperature=0)
    with client.responses.stream(model="demo", input=QUESTION, temperature=0) as stream:
        streamed = stream.get_final_response()
    assert whole.output_text == streamed.output_text == PARIS


@pytest.mark.client("openai", "chat.completions.parse and stream(response_format=a pydantic model)")
def test_parsed_replies(client: openai.OpenAI) -> None:
    """The SDK makes an object of the reply, whole or streamed."""
    asked: Any = {"model": "demo", "messages": AS_JSON, "response_format": Capital, "temperature": 0}
    parsed = client.chat.completions.parse(**asked).choices[0].message.parsed
    with client.chat.completions.stream(**asked) as stream:
        streamed = stream.get_final_completion().choices[0].message.parsed
    assert isinstance(parsed, Capital)
    assert parsed == streamed


@pytest.mark.client("openai", "responses.parse and responses.stream(text_format=a pydantic model)")
def test_parsed_responses(client: openai.OpenAI) -> None:
    """The SDK makes an object of the response, whole or streamed."""
    asked: Any = {"model": "demo", "input": AS_JSON, "text_format": Capital, "temperature": 0}
    parsed = client.responses.parse(**asked).output_parsed
    with client.responses.stream(**asked) as stream:
        streamed = stream.get_final_response().output_parsed
    assert isinstance(parsed, Capital)
    assert parsed == streamed


@pytest.mark.client("openai", "chat.completions.parse with tools, tool_choice=auto, required and a name")
@pytest.mark.parametrize(
    "choice", ["auto", "required", {"type": "function", "function": {"name": "get_weather"}}], ids=str
)
def test_a_tool_loop(client: openai.OpenAI, choice: Any) -> None:
    """A call has parsed arguments, and the model tells the result."""
    asked: Any = {"model": "demo", "tools": [TOOL], "temperature": 0}
    message = client.chat.completions.parse(messages=WEATHER, tool_choice=choice, **asked).choices[0].message
    call = (message.tool_calls or [])[0]
    assert call.function.parsed_arguments == GetWeather(city="Paris")
    result = {"role": "tool", "tool_call_id": call.id, "content": "Sunny, 21 degrees"}
    history: Any = [*WEATHER, message, result]
    told = client.chat.completions.create(messages=history, **asked)
    assert told.choices[0].message.content


@pytest.mark.client("openai", "chat.completions.stream with tools, tool_choice=required")
def test_a_streamed_call(client: openai.OpenAI) -> None:
    """A call that must be made is accumulated from a stream, and ends it as a call."""
    asked: Any = {"model": "demo", "messages": WEATHER, "tools": [TOOL], "temperature": 0}
    with client.chat.completions.stream(tool_choice="required", **asked) as stream:
        (choice,) = stream.get_final_completion().choices
    (call,) = choice.message.tool_calls or []
    assert (choice.finish_reason, call.function.parsed_arguments) == ("tool_calls", GetWeather(city="Paris"))


@pytest.mark.client("openai", "responses.create and stream with tools, tool_choice=auto, required and a name")
@pytest.mark.parametrize("choice", ["auto", "required", {"type": "function", "name": "get_weather"}], ids=str)
def test_a_tool_loop_of_responses(client: openai.OpenAI, choice: Any) -> None:
    """A call arrives whole and streamed, and the model tells the result."""
    asked: Any = {"model": "demo", "tools": [FLAT_TOOL], "temperature": 0}
    first = client.responses.create(input=WEATHER, tool_choice=choice, **asked)
    with client.responses.stream(input=WEATHER, tool_choice=choice, **asked) as stream:
        streamed = stream.get_final_response()
    for response in (first, streamed):
        call: Any = response.output[0]
        assert (call.type, json.loads(call.arguments)) == ("function_call", {"city": "Paris"})
        result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "Sunny, 21 degrees"}
        told = client.responses.create(input=[result], previous_response_id=response.id, **asked)
        assert told.output_text


@pytest.mark.client("openai", "models.list and models.retrieve")
def test_models(client: openai.OpenAI) -> None:
    """The SDK lists the served models and finds each."""
    for model in client.models.list():
        assert client.models.retrieve(model.id) == model


@pytest.mark.client("openai", "embeddings.create, in floats and Base64, of texts and tokens")
def test_embeddings(client: openai.OpenAI) -> None:
    """The SDK's own encoding and plain floats are the same vectors."""
    texts: Any = ["hello world", "embed a"]
    packed = client.embeddings.create(model="embedder", input=texts)
    plain = client.embeddings.create(model="embedder", input=texts, encoding_format="float")
    assert [entry.index for entry in packed.data] == [0, 1]
    for one, other in zip(packed.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding)
    assert client.embeddings.create(model="embedder", input=[[2, 4, 3]]).usage.total_tokens == 3

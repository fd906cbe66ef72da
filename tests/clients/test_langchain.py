"""LangChain's ChatOpenAI and OpenAIEmbeddings with a server of the demo model."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

PACKAGE = "langchain-openai"
# It warns of the object that it has made of a streamed reply itself.
pytestmark = pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")


@tool
def get_weather(city: str) -> str:
    """Get the current weather in a city"""
    return f"{city}: sunny, 21 degrees"


class Capital(BaseModel):
    """The capital of a country."""

    capital: str


@pytest.fixture
def model(demo_url: str) -> ChatOpenAI:
    """The chat model, without retries that would hide failures."""
    return ChatOpenAI(model="demo", base_url=demo_url, api_key="any", temperature=0, max_retries=0)


@pytest.mark.client(PACKAGE, "ChatOpenAI.invoke")
def test_invoke(model: ChatOpenAI) -> None:
    """A reply is a message with its text, its usage and why it ended."""
    reply = model.invoke("What is the capital of France?")
    assert reply.content == "The capital of France is Paris."
    assert reply.usage_metadata["total_tokens"] > reply.usage_metadata["input_tokens"] > 0
    assert reply.response_metadata["finish_reason"] == "stop"


@pytest.mark.client(PACKAGE, "ChatOpenAI.stream, with stream_usage")
def test_stream(model: ChatOpenAI) -> None:
    """The chunks of a stream add up to the whole reply, with its usage."""
    chunks = list(model.stream("What is the capital of France?", stream_usage=True))
    whole = sum(chunks[1:], chunks[0])
    assert whole.content == "The capital of France is Paris."
    assert whole.usage_metadata["output_tokens"] > 1


@pytest.mark.client(PACKAGE, "ChatOpenAI.bind_tools, tool_choice=auto, and the tool's result")
def test_a_tool_loop(model: ChatOpenAI) -> None:
    """A model with tools calls one, and tells what a ToolMessage says."""
    bound = model.bind_tools([get_weather], tool_choice="auto")
    question = HumanMessage("What is the weather in Paris?")
    called = bound.invoke([question])
    (call,) = called.tool_calls
    assert (call["name"], call["args"]) == ("get_weather", {"city": "Paris"})
    result = get_weather.invoke(call)
    assert isinstance(result, ToolMessage)
    told = bound.invoke([question, called, result])
    assert (told.tool_calls, bool(told.content)) == ([], True)


@pytest.mark.client(PACKAGE, "ChatOpenAI.bind_tools, tool_choice=any and the tool's name")
@pytest.mark.parametrize("choice", ["any", "required", "get_weather", True])
def test_a_call_that_is_required(model: ChatOpenAI, choice: Any) -> None:
    """A model that must call a tool does, whatever it is told."""
    reply = model.bind_tools([get_weather], tool_choice=choice).invoke("Hello")
    assert {call["name"] for call in reply.tool_calls} == {"get_weather"}
    assert reply.invalid_tool_calls == []


@pytest.mark.client(PACKAGE, "ChatOpenAI.bind_tools, streamed")
def test_a_streamed_call(model: ChatOpenAI) -> None:
    """The chunks of a call add up to the call."""
    chunks = list(model.bind_tools([get_weather]).stream("What is the weather in Paris?"))
    (call,) = sum(chunks[1:], chunks[0]).tool_calls
    assert (call["name"], call["args"]) == ("get_weather", {"city": "Paris"})


@pytest.mark.client(
    PACKAGE, "ChatOpenAI.with_structured_output, json_schema, function_calling, json_mode, streamed as well"
)
@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
@pytest.mark.parametrize("strict", [None, True])
def test_structured_output(
    model: ChatOpenAI, method: Literal["json_schema", "function_calling", "json_mode"], strict: bool | None
) -> None:
    """A reply is an object of the class that was asked for."""
    given = {} if strict is None or method == "json_mode" else {"strict": strict}
    structured = model.with_structured_output(Capital, method=method, **given)
    question = "What is the capital of France? Answer as JSON."
    reply = structured.invoke(question)
    assert isinstance(reply, Capital)
    *_, streamed = structured.stream(question)
    assert streamed == reply


@pytest.mark.client(PACKAGE, "ChatOpenAI(use_responses_api=True), with tools")
def test_responses(demo_url: str) -> None:
    """The same loop works over the Responses API."""
    model = ChatOpenAI(
        model="demo", base_url=demo_url, api_key="any", temperature=0, max_retries=0, use_responses_api=True
    )
    bound = model.bind_tools([get_weather])
    question = HumanMessage("What is the weather in Paris?")
    called = bound.invoke([question])
    (call,) = called.tool_calls
    assert (call["name"], call["args"]) == ("get_weather", {"city": "Paris"})
    told = bound.invoke([question, called, get_weather.invoke(call)])
    assert isinstance(told, AIMessage)
    assert told.text


@pytest.mark.client(PACKAGE, "OpenAIEmbeddings(check_embedding_ctx_length=False)")
def test_embeddings(demo_url: str) -> None:
    """Documents and queries become vectors, the same for the same text."""
    embeddings = OpenAIEmbeddings(
        model="embedder", base_url=demo_url, api_key="any", max_retries=0, check_embedding_ctx_length=False
    )
    first, second = embeddings.embed_documents(["hello world", "embed a"])
    assert embeddings.embed_query("hello world") == pytest.approx(first)
    assert first != second

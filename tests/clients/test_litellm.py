"""LiteLLM with a server of the demo model, which it calls as a provider of OpenAI's API."""

from __future__ import annotations

import inspect
import json
from collections.abc import AsyncIterator
from typing import Any

import litellm
import pytest
from pydantic import BaseModel

QUESTION: Any = [{"role": "user", "content": "What is the capital of France?"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


# What the client warns of is its own affair.
pytestmark = pytest.mark.filterwarnings("ignore")


class Capital(BaseModel):
    """The capital of a country."""

    capital: str


@pytest.fixture(autouse=True)
async def connections_are_closed() -> AsyncIterator[None]:
    """Close after each test what LiteLLM keeps open for later calls."""
    yield
    kept = litellm.in_memory_llm_clients_cache.cache_dict.values()
    for client in [*kept, litellm.module_level_client]:
        if not inspect.iscoroutinefunction(client.close):
            client.close()
    await litellm.close_litellm_async_clients()
    litellm.in_memory_llm_clients_cache.flush_cache()


@pytest.fixture
def asked(demo_url: str) -> dict[str, Any]:
    """What every call says."""
    return {"model": "hosted_vllm/demo", "api_base": demo_url, "api_key": "any", "temperature": 0}


@pytest.fixture(params=["openai/demo", "hosted_vllm/demo"])
def each(asked: dict[str, Any], request: pytest.FixtureRequest) -> dict[str, Any]:
    """What every call says, with either of the providers that send OpenAI's requests to a base URL."""
    return {**asked, "model": request.param}


@pytest.mark.client("litellm", "completion")
def test_completion(each: dict[str, Any]) -> None:
    """A reply has its text, why it ended, and its usage."""
    reply = litellm.completion(messages=QUESTION, **each)
    (choice,) = reply.choices
    assert (choice.message.content, choice.finish_reason) == ("The capital of France is Paris.", "stop")
    assert reply.usage.total_tokens > reply.usage.prompt_tokens > 0


@pytest.mark.client("litellm", "completion(stream=True) and stream_chunk_builder")
def test_stream(each: dict[str, Any]) -> None:
    """The chunks of a stream add up to the whole reply."""
    chunks = list(
        litellm.completion(messages=QUESTION, stream=True, stream_options={"include_usage": True}, **each)
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "The capital of France is Paris."
    whole = litellm.stream_chunk_builder(chunks, messages=QUESTION)
    assert whole is not None
    assert whole.choices[0].message.content == text
    assert whole.usage.completion_tokens > 1


@pytest.mark.client("litellm", "acompletion")
async def test_async(each: dict[str, Any]) -> None:
    """The asynchronous call gets the same reply."""
    reply = await litellm.acompletion(messages=QUESTION, **each)
    assert reply.choices[0].message.content == "The capital of France is Paris."


@pytest.mark.client("litellm", "completion(response_format=a pydantic model)")
def test_a_class_as_the_form_of_the_reply(each: dict[str, Any]) -> None:
    """A reply has the form of the class."""
    question = [{"role": "user", "content": "What is the capital of France? Answer as JSON."}]
    reply = litellm.completion(messages=question, response_format=Capital, **each)
    assert Capital.model_validate_json(reply.choices[0].message.content).capital


@pytest.mark.client("litellm", "completion(response_format=json_schema and json_object)")
@pytest.mark.parametrize(
    "form",
    [
        {"type": "json_object"},
        {"type": "json_schema", "json_schema": {"name": "c", "schema": Capital.model_json_schema()}},
    ],
    ids=lambda form: form["type"],
)
def test_a_form_of_the_reply(each: dict[str, Any], form: dict[str, Any]) -> None:
    """A reply is a JSON object."""
    question = [{"role": "user", "content": "What is the capital of France? Answer as JSON."}]
    reply = litellm.completion(messages=question, response_format=form, **each)
    assert isinstance(json.loads(reply.choices[0].message.content), dict)


@pytest.mark.client("litellm", "completion(tools, tool_choice=auto and required), and the tool's result")
@pytest.mark.parametrize("choice", ["auto", "required"])
def test_a_tool_loop(each: dict[str, Any], choice: str) -> None:
    """A tool is called, and the message of the call is accepted in the history."""
    question = {"role": "user", "content": "What is the weather in Paris?"}
    reply = litellm.completion(messages=[question], tools=[WEATHER], tool_choice=choice, **each)
    message = reply.choices[0].message
    call = message.tool_calls[0]
    assert (call.function.name, reply.choices[0].finish_reason) == ("get_weather", "tool_calls")
    assert json.loads(call.function.arguments) == {"city": "Paris"}
    result = {"role": "tool", "tool_call_id": call.id, "content": "Sunny, 21 degrees"}
    told = litellm.completion(messages=[question, message, result], tools=[WEATHER], **each)
    assert told.choices[0].message.content


@pytest.mark.client("litellm", "text_completion")
def test_text_completion(asked: dict[str, Any]) -> None:
    """A raw completion has its text."""
    reply = litellm.text_completion(
        prompt="Hello", max_tokens=4, **{**asked, "model": "text-completion-openai/demo"}
    )
    assert reply.choices[0].text


@pytest.mark.client("litellm", "responses")
def test_responses(asked: dict[str, Any]) -> None:
    """A response has its text."""
    reply = litellm.responses(input=QUESTION[0]["content"], **{**asked, "model": "openai/demo"})
    assert reply.output[0].content[0].text == "The capital of France is Paris."


@pytest.mark.client("litellm", "completion(model=anthropic/…), over Anthropic's API")
def test_anthropics_api(asked: dict[str, Any], demo_server: str) -> None:
    """A message of Anthropic's API is read as a completion."""
    reply = litellm.completion(
        messages=QUESTION, **{**asked, "model": "anthropic/demo", "api_base": demo_server}
    )
    assert reply.choices[0].message.content == "The capital of France is Paris."


@pytest.mark.client("litellm", "exceptions")
def test_errors_are_litellms_own(asked: dict[str, Any]) -> None:
    """Refusals arrive as LiteLLM's exceptions."""
    with pytest.raises(litellm.NotFoundError, match="model"):
        litellm.completion(messages=QUESTION, **{**asked, "model": "openai/none"})
    with pytest.raises(litellm.ContextWindowExceededError):
        litellm.completion(
            messages=[{"role": "user", "content": "word " * 9000}], **{**asked, "model": "openai/demo"}
        )

"""pydantic-ai's agents with a server of the demo model, over chat completions and over responses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput, PromptedOutput, ToolOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

PACKAGE = "pydantic-ai-slim"
Model = Any  # either of the two


class Capital(BaseModel):
    """The capital of a country."""

    capital: str


@pytest.fixture(params=[OpenAIChatModel, OpenAIResponsesModel])
async def model(demo_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Model]:
    """Either model."""
    async with openai.AsyncOpenAI(base_url=demo_url, api_key="any", max_retries=0) as client:
        yield request.param("demo", provider=OpenAIProvider(openai_client=client))


@pytest.mark.client(PACKAGE, "Agent.run, with OpenAIChatModel and OpenAIResponsesModel")
async def test_run(model: Model) -> None:
    """An agent's output is the reply's text, and its usage is counted."""
    result = await Agent(model, model_settings={"temperature": 0}).run("What is the capital of France?")
    assert result.output == "The capital of France is Paris."
    assert result.usage.output_tokens > 1


@pytest.mark.client(PACKAGE, "Agent.run_stream")
async def test_stream(model: Model) -> None:
    """A streamed run ends with the same text."""
    agent = Agent(model, model_settings={"temperature": 0})
    async with agent.run_stream("What is the capital of France?") as result:
        texts = [text async for text in result.stream_text(debounce_by=None)]
    assert texts[-1] == "The capital of France is Paris."
    assert len(texts) > 1


@pytest.mark.client(PACKAGE, "Agent with a tool")
async def test_a_tool_loop(model: Model) -> None:
    """An agent calls its function and answers from the result."""
    agent = Agent(model, model_settings={"temperature": 0})
    asked: list[str] = []

    @agent.tool_plain
    def get_weather(city: str) -> str:
        """Get the current weather in a city"""
        asked.append(city)
        return "Sunny, 21 degrees"

    result = await agent.run("What is the weather in Paris?")
    assert asked == ["Paris"]
    assert result.output


@pytest.mark.client(PACKAGE, "Agent.run_stream with output_type")
@pytest.mark.parametrize("form", [Capital, NativeOutput(Capital)])
async def test_a_streamed_object(model: Model, form: Any) -> None:
    """A streamed run ends with the object."""
    agent = Agent(model, output_type=form, model_settings={"temperature": 0})
    async with agent.run_stream("What is the capital of France? Answer as JSON.") as result:
        assert isinstance(await result.get_output(), Capital)


@pytest.mark.client(PACKAGE, "Agent with output_type as a class, ToolOutput, NativeOutput and PromptedOutput")
@pytest.mark.parametrize(
    "form", [Capital, ToolOutput(Capital), NativeOutput(Capital), PromptedOutput(Capital)]
)
async def test_output_type(model: Model, form: Any) -> None:
    """An agent's output is an object of the class that was asked for, at the first attempt."""
    agent = Agent(model, output_type=form, model_settings={"temperature": 0}, retries=0)
    result = await agent.run("What is the capital of France? Answer as JSON.")
    assert isinstance(result.output, Capital)

"""OpenAI's Agents SDK with a server of the demo model, over chat completions and over responses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
)
from pydantic import BaseModel

PACKAGE = "openai-agents"
Model = Any  # either of the two


class Capital(BaseModel):
    """The capital of a country."""

    capital: str


@pytest.fixture(params=[OpenAIChatCompletionsModel, OpenAIResponsesModel])
async def model(demo_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Model]:
    """Either model."""
    async with openai.AsyncOpenAI(base_url=demo_url, api_key="any", max_retries=0) as client:
        yield request.param("demo", client)


def agent(model: Model, **given: Any) -> Agent[None]:
    """A greedy agent."""
    choice = {"tool_choice": given.pop("tool_choice")} if "tool_choice" in given else {}
    return Agent(name="demo", model=model, model_settings=ModelSettings(temperature=0, **choice), **given)


@pytest.mark.client(PACKAGE, "Runner.run, with OpenAIChatCompletionsModel and OpenAIResponsesModel")
async def test_run(model: Model) -> None:
    """A run ends with the reply's text."""
    result = await Runner.run(agent(model), "What is the capital of France?")
    assert result.final_output == "The capital of France is Paris."


@pytest.mark.client(PACKAGE, "Runner.run_streamed")
async def test_stream(model: Model) -> None:
    """A streamed run yields the text in parts."""
    result = Runner.run_streamed(agent(model), "What is the capital of France?")
    deltas = [
        event.data.delta
        async for event in result.stream_events()
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta"
    ]
    assert "".join(deltas) == result.final_output == "The capital of France is Paris."


@pytest.mark.client(PACKAGE, "Agent with a function_tool, tool_choice=auto and required")
@pytest.mark.parametrize("choice", ["auto", "required", "get_weather"])
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_tool_loop(model: Model, choice: str, streamed: bool) -> None:
    """An agent calls its function and answers from the result."""
    asked: list[str] = []

    @function_tool
    def get_weather(city: str) -> str:
        """Get the current weather in a city"""
        asked.append(city)
        return "Sunny, 21 degrees"

    helper = agent(model, tools=[get_weather], tool_choice=choice)
    if streamed:
        result: Any = Runner.run_streamed(helper, "What is the weather in Paris?")
        async for _ in result.stream_events():
            pass
    else:
        result = await Runner.run(helper, "What is the weather in Paris?")
    assert asked == ["Paris"]
    assert result.final_output


@pytest.mark.client(PACKAGE, "Agent with output_type")
async def test_output_type(model: Model) -> None:
    """A run's output is an object of the class that was asked for."""
    result = await Runner.run(
        agent(model, output_type=Capital), "What is the capital of France? Answer as JSON."
    )
    assert isinstance(result.final_output, Capital)

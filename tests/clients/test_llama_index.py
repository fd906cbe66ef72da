"""llama-index's OpenAILike with a server of the demo model. It needs an older SDK of OpenAI, so that
`make test-clients` runs this in an environment of its own.
"""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

pytest.importorskip("llama_index.llms.openai_like", reason="make test-clients runs this")
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike

PACKAGE = "llama-index-llms-openai-like"
PARIS = "The capital of France is Paris."


class Capital(BaseModel):
    """The capital of a country."""

    capital: str


def get_weather(city: str) -> str:
    """Get the current weather in a city"""
    return f"{city}: sunny, 21 degrees"


@pytest.fixture
def model(demo_url: str) -> OpenAILike:
    """The model, which counts no tokens itself: that would download an encoding."""
    return OpenAILike(
        model="demo",
        api_base=demo_url,
        api_key="any",
        temperature=0,
        max_retries=0,
        context_window=2048,
        is_chat_model=True,
        is_function_calling_model=True,
    )


@pytest.mark.client(PACKAGE, "OpenAILike.chat and stream_chat")
def test_chat(model: OpenAILike) -> None:
    """A whole reply and a streamed one have the same text."""
    question = [ChatMessage(role="user", content="What is the capital of France?")]
    assert model.chat(question).message.content == PARIS
    assert [reply.message.content for reply in model.stream_chat(question)][-1] == PARIS


@pytest.mark.client(PACKAGE, "OpenAILike(is_chat_model=False).complete")
def test_complete(model: OpenAILike) -> None:
    """A raw completion has its text."""
    plain = model.model_copy(update={"is_chat_model": False, "max_tokens": 4})
    assert plain.complete("Hello").text


@pytest.mark.client(PACKAGE, "OpenAILike.predict_and_call")
def test_a_tool_is_called(model: OpenAILike) -> None:
    """The function that the model calls is run."""
    tool = FunctionTool.from_defaults(get_weather)
    assert "Paris: sunny" in str(model.predict_and_call([tool], "What is the weather in Paris?"))


@pytest.mark.client(
    PACKAGE, "OpenAILike.chat_with_tools, tool_required=False and True, and the tool's result"
)
@pytest.mark.parametrize("required", [False, True])
def test_a_tool_loop(model: OpenAILike, required: bool) -> None:
    """A tool is called, and the message of the call is accepted in the history."""
    tool = FunctionTool.from_defaults(get_weather)
    question = ChatMessage(role="user", content="What is the weather in Paris?")
    reply = model.chat_with_tools([tool], user_msg=question, tool_required=required)
    call = model.get_tool_calls_from_response(reply)[0]
    assert (call.tool_name, call.tool_kwargs) == ("get_weather", {"city": "Paris"})
    result = ChatMessage(
        role="tool", content="Sunny, 21 degrees", additional_kwargs={"tool_call_id": call.tool_id}
    )
    history = [question, reply.message, result]
    assert model.chat_with_tools([tool], chat_history=history).message.content


@pytest.mark.client(PACKAGE, "OpenAILike.structured_predict and stream_structured_predict")
@pytest.mark.parametrize("structured", [False, True])
def test_structured_predict(model: OpenAILike, structured: bool) -> None:
    """A reply is an object of the class that was asked for, by a call or as JSON."""
    used = model.model_copy(update={"should_use_structured_outputs": structured})
    prompt = PromptTemplate("What is the capital of {country}? Answer as JSON.")
    asked: Any = {"country": "France"}
    assert isinstance(used.structured_predict(Capital, prompt, **asked), Capital)
    *_, last = used.stream_structured_predict(Capital, prompt, **asked)
    assert last.capital

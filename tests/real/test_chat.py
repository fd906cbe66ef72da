"""SmolLM2-135M-Instruct behind a real server: its numbers are those of transformers, its replies useful."""

from __future__ import annotations

from enum import Enum
from typing import Any

import numpy as np
import openai
import pytest
import real_models
import torch
from pydantic import BaseModel, ConfigDict
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.real.serving import served_name

CAPITAL = "What is the capital of France?"
STORY = "Tell me about the sea."
NUM_TOKENS = 32


class Capital(BaseModel):
    """The form of an answer."""

    model_config = ConfigDict(extra="forbid")

    city: str
    country: str


class Unit(Enum):
    """Units of temperature."""

    CELSIUS = "celsius"
    FAHRENHEIT = "fahrenheit"


class Place(BaseModel):
    """The arguments of a tool."""

    model_config = ConfigDict(extra="forbid")

    city: str
    unit: Unit


WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tells the present weather in a city.",
        "parameters": Place.model_json_schema(),
    },
}


def ask(client: openai.OpenAI, question: str, **fields: Any) -> Any:
    """The only choice of a greedy reply."""
    fields = {"max_tokens": NUM_TOKENS, "temperature": 0, **fields}
    reply: Any = client.chat.completions.create(
        model=served_name(client), messages=[{"role": "user", "content": question}], **fields
    )
    (choice,) = reply.choices
    return choice


def expected_tokens(question: str) -> tuple[list[str], list[float]]:
    """What transformers draws greedily, token by token, with the logprobs."""
    tokenizer = AutoTokenizer.from_pretrained(real_models.SMOLLM2.directory)
    model = AutoModelForCausalLM.from_pretrained(real_models.SMOLLM2.directory, dtype=torch.float32)
    messages = [{"role": "user", "content": question}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt")
    ids = model.generate(**prompt, max_new_tokens=NUM_TOKENS, do_sample=False)[0]
    with torch.no_grad():
        logprobs = model(ids[None]).logits[0].log_softmax(dim=-1)
    start = prompt["input_ids"].shape[1]
    of_ids = logprobs[torch.arange(start - 1, len(ids) - 1), ids[start:]]
    return [tokenizer.decode(token) for token in ids[start:]], of_ids.tolist()


@pytest.mark.parametrize("server", ["exact", "from_file"])
def test_tokens_and_logprobs_are_those_of_transformers(server: str, request: pytest.FixtureRequest) -> None:
    """Template, tokenizer, model and greedy draws agree: the same tokens, with logprobs within 1e-3. The
    weights are those that transformers reads from the GGUF file.
    """
    tokens, logprobs = expected_tokens(STORY)
    found = ask(request.getfixturevalue(server), STORY, logprobs=True).logprobs.content
    assert [token.token for token in found] == tokens
    assert np.abs(np.subtract([token.logprob for token in found], logprobs)).max() < 1e-3


@pytest.mark.parametrize("server", ["exact", "from_file"])
def test_a_question_is_answered(server: str, request: pytest.FixtureRequest) -> None:
    """It knows the capital of France, and ends its answer."""
    choice = ask(request.getfixturevalue(server), CAPITAL)
    assert "Paris" in choice.message.content
    assert choice.finish_reason == "stop"


def test_the_usual_scheme_answers_too(usual: openai.OpenAI) -> None:
    """Quantized as by default, it still knows the capital if it is asked for a sentence."""
    assert "Paris" in ask(usual, f"{CAPITAL} Answer with one English sentence.").message.content


@pytest.mark.parametrize("server", ["exact", "usual"])
def test_an_answer_in_a_form_is_sensible(server: str, request: pytest.FixtureRequest) -> None:
    """With a JSON schema the answer follows the schema, and is still the right one."""
    form = {"name": "capital", "schema": Capital.model_json_schema()}
    choice = ask(
        request.getfixturevalue(server),
        f"{CAPITAL} Reply in JSON with city and country.",
        response_format={"type": "json_schema", "json_schema": form},
    )
    answer = Capital.model_validate_json(choice.message.content)
    assert (answer.city, answer.country.title()) == ("Paris", "France")
    assert choice.finish_reason == "stop"


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_a_forced_call_is_valid(usual: openai.OpenAI, choice: Any) -> None:
    """A model that never learned to call tools calls one if it must, with arguments that fit the schema."""
    reply = ask(
        usual,
        "What is the weather in Oslo, in celsius?",
        tools=[WEATHER],
        tool_choice=choice,
        parallel_tool_calls=False,  # it would call again and again
    )
    (call,) = reply.message.tool_calls
    assert call.function.name == "get_weather"
    assert Place.model_validate_json(call.function.arguments) == Place(city="Oslo", unit=Unit.CELSIUS)
    assert (reply.message.content, reply.finish_reason) == (None, "tool_calls")


def test_tools_do_not_disturb_a_plain_question(exact: openai.OpenAI) -> None:
    """Under tool_choice auto a question that needs no tool is answered in plain text."""
    message = ask(exact, CAPITAL, tools=[WEATHER], tool_choice="auto").message
    assert "Paris" in message.content
    assert not message.tool_calls

"""Replies that follow a schema, an expression or a grammar, from a fake model that knows nothing of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mlc_serve.api.async_engine import AsyncMLCEngine
from mlc_serve.engine.limits import EngineLimits
from mlc_serve.errors import InvalidRequestError
from mlc_serve.testing import FakeBackend, fake_model
from mlc_serve.testing.kv_cache import FakeKVCache

Serve = Callable[..., AsyncMLCEngine]
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 5}, "size": {"enum": ["small", "large"]}},
    "required": ["name", "size"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "thing", "schema": SCHEMA, "strict": True}}
HI = [{"role": "user", "content": "hi"}]


def is_thing(text: str | None) -> bool:
    """Return whether a text follows the schema."""
    thing = json.loads(text or "null")
    return [*thing] == ["name", "size"] and thing["size"] in ("small", "large")


async def streamed(engine: AsyncMLCEngine, **fields: Any) -> list[Any]:
    """Return the chunks of a streamed chat completion."""
    stream = await engine.chat.completions.create(stream=True, messages=HI, **fields)
    return [chunk async for chunk in stream]


@pytest.mark.parametrize(
    "fields",
    [
        {"response_format": FORMAT},
        {"response_format": {"type": "json_object", "schema": json.dumps(SCHEMA)}},
        {"structured_outputs": {"json": SCHEMA}},
        {"guided_json": SCHEMA},
        {"response_format": FORMAT, "debug_config": {"grammar_execution_mode": "constraint"}},
        {"response_format": FORMAT, "temperature": 0, "ignore_eos": True},
        {"response_format": FORMAT, "logprobs": True, "top_logprobs": 2},
        {"response_format": FORMAT, "min_tokens": 200, "presence_penalty": 1.5},
    ],
)
async def test_every_choice_follows_the_schema(serve: Serve, fields: dict[str, Any]) -> None:
    """Whole or streamed, each of several choices is JSON of the schema and ends by itself."""
    engine = serve()
    whole = await engine.chat.completions.create(messages=HI, n=3, seed=1, **fields)
    texts = [choice.message.content for choice in whole.choices]
    assert all(map(is_thing, texts))
    assert {choice.finish_reason for choice in whole.choices} == {"stop"}
    parts = await streamed(engine, n=3, seed=1, **fields)
    for index, text in enumerate(texts):
        choices = [choice for part in parts for choice in part.choices if choice.index == index]
        assert "".join(choice.delta.content or "" for choice in choices) == text
    if fields.get("logprobs"):
        logprobs = whole.choices[0].logprobs.content
        assert "".join(entry.token for entry in logprobs) == texts[0]


async def test_completions_follow_expressions_choices_and_grammars(serve: Serve) -> None:
    """Raw completions take the other notations; usage counts forced tokens."""
    engine = serve()
    for form, texts in [
        ({"choice": ["yes indeed", "no"]}, {"yes indeed", "no"}),
        ({"regex": "a{3}b"}, {"aaab"}),
        ({"grammar": 'root ::= "x" "yz"'}, {"xyz"}),
    ]:
        reply = await engine.completions.create(prompt="q", structured_outputs=form, max_tokens=50)
        (choice,) = reply.choices
        assert choice.text in texts
        assert choice.finish_reason == "stop"
        assert reply.usage is not None
        assert reply.usage.completion_tokens == len(choice.text)


async def test_limits_and_stop_strings_cut_the_form(serve: Serve) -> None:
    """A limit of tokens ends the output within forced tokens, and a stop string within them as well."""
    engine = serve()
    cut = await engine.chat.completions.create(messages=HI, response_format=FORMAT, max_tokens=6)
    assert (cut.choices[0].message.content, cut.choices[0].finish_reason) == ('{"name', "length")
    stopped = await engine.chat.completions.create(messages=HI, response_format=FORMAT, stop=["me"])
    assert (stopped.choices[0].message.content, stopped.choices[0].finish_reason) == ('{"na', "stop")


async def test_preempted_requests_go_on_within_their_schema() -> None:
    """With too few pages for all, each request still gives what it gives alone."""
    limits = EngineLimits(4, 80, 80, 32)
    model = replace(fake_model(backend=FakeBackend(state=FakeKVCache(4, 20))), limits=limits)
    engine = AsyncMLCEngine.from_loaded(model)
    try:
        many = await engine.chat.completions.create(messages=HI, n=4, seed=7, response_format=FORMAT)
        alone = [
            await engine.chat.completions.create(messages=HI, seed=7 + i, response_format=FORMAT)
            for i in range(4)
        ]
        assert engine.registry.get_sample_value("mlc_serve_preemptions_total", {"model": "fake"})
    finally:
        engine.terminate()
    texts = [choice.message.content for choice in many.choices]
    assert texts == [one.choices[0].message.content for one in alone]
    assert all(map(is_thing, texts))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"items": {"not": {}}}}}},
            "response_format.json_schema.schema.items",
        ),
        ({"structured_outputs": {"regex": "("}}, "structured_outputs.regex"),
        ({"structured_outputs": {"grammar": "start: nowhere"}}, "structured_outputs.grammar"),
        ({"guided_json": {"type": "no such type"}}, "structured_outputs.json"),
    ],
)
async def test_what_cant_be_followed_is_refused(serve: Serve, fields: dict[str, Any], param: str) -> None:
    """Nothing is generated, and the error says where."""
    with pytest.raises(InvalidRequestError) as caught:
        await serve().chat.completions.create(messages=HI, **fields)
    assert caught.value.param == param

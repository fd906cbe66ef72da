"""The logprobs of prompts, in both formats and on both endpoints."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import chain
from typing import Any

import pytest

from mlc_serve.api.async_engine import AsyncMLCEngine
from mlc_serve.errors import InvalidRequestError
from mlc_serve.testing import BOS_ID, FakeBackend

Serve = Callable[..., AsyncMLCEngine]


def backend_of(engine: AsyncMLCEngine) -> FakeBackend:
    """The fake device of an engine."""
    backend = engine._model.backend
    assert isinstance(backend, FakeBackend)
    return backend


def num_scored(engine: AsyncMLCEngine) -> int:
    """How many prompt tokens the engine has scored."""
    steps = [step for batch in backend_of(engine).batches for step in batch]
    return sum(target is not None for step in steps for target in step.targets or ())


async def completion(engine: AsyncMLCEngine, **fields: Any) -> dict[str, Any]:
    """The whole reply, as JSON has it."""
    reply = await engine.completions.create(**fields)
    found: dict[str, Any] = json.loads(reply.to_json())
    return found


def as_harness_reads(reply: dict[str, Any], num_context: list[int]) -> list[tuple[float, bool]]:
    """What lm-evaluation-harness reads: the logprob of each prompt's tokens after its context, and whether
    all of them are greedy. It takes for granted that the last entry is the one generated token.
    """
    read = []
    for choice, start in zip(
        sorted(reply["choices"], key=lambda one: one["index"]), num_context, strict=True
    ):
        own = choice["logprobs"]["token_logprobs"][start:-1]
        top = choice["logprobs"]["top_logprobs"][start:-1]
        read.append(
            (sum(own), all(value == max(best.values()) for value, best in zip(own, top, strict=True)))
        )
    return read


@pytest.mark.parametrize("script", [b"", b"z"])
@pytest.mark.parametrize("as_ids", [False, True])
async def test_an_evaluation_harness_reads_loglikelihoods(serve: Serve, script: bytes, as_ids: bool) -> None:
    """Of several prompts in one request, each has an entry for every token and for the generated one, also if
    that ends the text; the likeliest continuation is recognized as greedy.
    """
    greedy = (await completion(serve(), prompt="ab", temperature=0, max_tokens=3))["choices"][0]["text"]
    texts = ["ab" + greedy, "abQ"]
    prompts = [[BOS_ID, *text.encode()] for text in texts] if as_ids else texts
    fields = {"logprobs": 1, "echo": True, "temperature": 0, "max_tokens": 1, "seed": 1234}
    reply = await completion(serve(script), prompt=prompts, **fields)
    (likely, is_greedy), (unlikely, is_also_greedy) = as_harness_reads(reply, [3, 3])
    assert (is_greedy, is_also_greedy) == (True, False)
    assert likely > unlikely
    assert [len(choice["logprobs"]["tokens"]) for choice in reply["choices"]] == [7, 5]


@pytest.mark.parametrize(
    ("prompt", "starts"),
    [
        ("a<|im_end|>b", [0, 0, 1, 11, 12]),
        ([BOS_ID, *b"a", BOS_ID, *b"b"], [0, 0, 1, 1, 2]),
        ("é<s>", [0, 0, 0, 1, 4]),
        ([*b"a\xc3"], [0, 1, 2]),
    ],
)
async def test_offsets_are_places_in_the_echoed_text(serve: Serve, prompt: object, starts: list[int]) -> None:
    """Special tokens take the place that they have in the echoed text; the output begins where that ends,
    even if it ends within a character.
    """
    reply = await completion(serve(b"z"), prompt=prompt, echo=True, logprobs=0, max_tokens=1)
    (choice,) = reply["choices"]
    assert choice["logprobs"]["text_offset"] == starts
    assert choice["text"][starts[-1] :] == "z"


async def test_a_prompt_has_scores_and_ranks(serve: Serve) -> None:
    """Each position has the prompt's token and the likeliest ones, with their ranks; the first has null."""
    reply = await completion(serve(), prompt="ab", prompt_logprobs=2, max_tokens=0)
    (choice,) = reply["choices"]
    first, *others = choice["prompt_logprobs"]
    assert (choice["text"], choice["logprobs"], choice["finish_reason"], first) == ("", None, "length", None)
    for position, token in zip(others, "ab", strict=True):
        own, *rest = position.values()
        assert (next(iter(position)), own["decoded_token"]) == (str(ord(token)), token)
        assert own["rank"] >= 1
        assert {one["rank"] for one in (own, *rest)} >= {1, 2}
        assert 2 <= len(position) <= 3


async def test_choices_share_one_scoring(serve: Serve) -> None:
    """Each prompt is scored once. All its choices have the scores, and reuse what the first has computed."""
    engine = serve()
    fields = {"prompt": ["ab" * 20, "cd" * 20], "n": 3, "max_tokens": 2}
    reply = await completion(engine, **fields, prompt_logprobs=1, echo=True, logprobs=0)
    assert num_scored(engine) == 2 * 40
    scores = [choice["prompt_logprobs"] for choice in reply["choices"]]
    assert scores[0] == scores[1] == scores[2] != scores[3]
    listed = [choice["logprobs"]["token_logprobs"][:41] for choice in reply["choices"]]
    assert listed[0] == listed[2] != listed[5]
    assert listed[0][1:] == [next(iter(position.values()))["logprob"] for position in scores[0][1:]]
    assert {len(best) for best in reply["choices"][0]["logprobs"]["top_logprobs"][1:]} == {1}
    later = await completion(engine, prompt="ab" * 20, max_tokens=1)
    assert later["usage"]["prompt_tokens_details"]["cached_tokens"] == 40


@pytest.mark.parametrize(
    "fields", [{"prompt_logprobs": 3}, {"echo": True, "logprobs": 1, "prompt_logprobs": 3}]
)
async def test_a_streamed_completion_adds_up_to_the_whole_one(serve: Serve, fields: dict[str, Any]) -> None:
    """The first choice's chunks have the prompt's scores, in order and before its output, in short parts."""
    engine = serve()
    fields |= {"prompt": "abc" * 200, "n": 2, "max_tokens": 2, "temperature": 0}
    whole = await completion(engine, **fields)
    stream = await engine.completions.create(stream=True, **fields)
    chunks = [json.loads(chunk.to_json()) async for chunk in stream]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    parts = [choice["prompt_logprobs"] for choice in choices if "prompt_logprobs" in choice]
    assert [*chain(*parts)] == whole["choices"][0]["prompt_logprobs"]
    assert max(map(len, parts)) <= 256
    assert {choice["index"] for choice in choices if "prompt_logprobs" in choice} == {0}
    for index in (0, 1):
        own = [choice for choice in choices if choice["index"] == index]
        assert "".join(choice["text"] for choice in own) == whole["choices"][index]["text"]
        if "logprobs" in fields:
            tokens = [token for choice in own for token in choice["logprobs"]["tokens"]]
            assert tokens == whole["choices"][index]["logprobs"]["tokens"]


async def test_a_chat_reply_has_the_scores_of_its_prompt(serve: Serve) -> None:
    """They are beside the choices of a whole reply, and in the first chunks of a stream."""
    engine = serve(b"ok")
    fields: dict[str, Any] = {"messages": [{"role": "user", "content": "hi " * 60}], "n": 2}
    reply = await engine.chat.completions.create(**fields, prompt_logprobs=1, logprobs=True)
    whole = json.loads(reply.to_json())
    assert len(whole["prompt_logprobs"]) == whole["usage"]["prompt_tokens"]
    assert [choice["logprobs"]["content"][0]["token"] for choice in whole["choices"]] == ["o", "o"]
    assert "prompt_logprobs" not in json.loads((await engine.chat.completions.create(**fields)).to_json())
    stream = await engine.chat.completions.create(**fields, prompt_logprobs=1, stream=True)
    chunks = [json.loads(chunk.to_json()) async for chunk in stream]
    scored = [chunk for chunk in chunks if "prompt_logprobs" in chunk]
    assert [*chain(*(chunk["prompt_logprobs"] for chunk in scored))] == whole["prompt_logprobs"]
    assert all(len(chunk["choices"]) == 1 for chunk in chunks)
    texts = [chunk["choices"][0] for chunk in chunks]
    for index in (0, 1):
        own = [choice["delta"] for choice in texts if choice["index"] == index]
        assert own[0]["role"] == "assistant"
        assert "".join(delta.get("content", "") for delta in own) == "ok"


@pytest.mark.parametrize("number", [-1, 21, 1.5, True])
async def test_a_wrong_number_is_refused(serve: Serve, number: object) -> None:
    """The number of alternatives is from 0 to 20."""
    with pytest.raises(InvalidRequestError, match="prompt_logprobs"):
        await completion(serve(), prompt="ab", prompt_logprobs=number)


async def test_a_reply_that_could_not_hold_the_scores_is_refused(serve: Serve) -> None:
    """The size of a whole reply is bounded before anything is computed; a stream is not kept."""
    fields: dict[str, Any] = {"prompt": "a" * 1000, "n": 128, "prompt_logprobs": 20, "max_tokens": 1}
    engine = serve()
    with pytest.raises(InvalidRequestError, match="stream the reply") as caught:
        await completion(engine, **fields)
    assert (caught.value.param, backend_of(engine).batches) == ("prompt_logprobs", [])

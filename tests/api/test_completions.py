"""Completions of an engine, parsed with the types of OpenAI's client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from openai.types import Completion

from mlc_serve.api.async_engine import AsyncMLCEngine
from mlc_serve.errors import ContextLengthError, InvalidRequestError
from mlc_serve.loaded_model import GenerationDefaults
from mlc_serve.testing import BOS_ID, EOS_ID

Serve = Callable[..., AsyncMLCEngine]


async def whole(engine: AsyncMLCEngine, prompt: object = "ab", **fields: Any) -> Completion:
    """Return the whole reply. The client's type has no null logprob, which a prompt's first token gets."""
    reply = await engine.completions.create(prompt=prompt, **fields)
    return Completion.model_validate_json(reply.to_json())


async def parts(engine: AsyncMLCEngine, prompt: object = "ab", **fields: Any) -> list[dict[str, Any]]:
    """Return the chunks of a reply. Their finish reasons are null, which the client's type does not allow."""
    stream = await engine.completions.create(prompt=prompt, stream=True, **fields)
    return [part.model_dump(exclude_unset=True) async for part in stream]


def joined(streamed: list[dict[str, Any]], index: int = 0) -> str:
    """Return the streamed text of one choice."""
    choices = [choice for part in streamed for choice in part["choices"] if choice["index"] == index]
    return "".join(choice["text"] for choice in choices)


async def test_whole_reply(serve: Serve) -> None:
    """A whole reply has text, finish reason and usage."""
    reply = await whole(serve(b" cd"))
    assert (reply.choices[0].text, reply.choices[0].finish_reason) == (" cd", "stop")
    assert reply.object == "text_completion"
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (3, 4)


async def test_streamed_reply_is_the_whole_one_in_parts(serve: Serve) -> None:
    """A stream adds up to the whole reply, and ends with the usage if it was asked for."""
    streamed = await parts(serve("é!".encode()), stream_options={"include_usage": True})
    assert joined(streamed) == "é!"
    assert [part["usage"] is None for part in streamed] == [True] * (len(streamed) - 1) + [False]
    assert all("usage" not in part for part in await parts(serve(b"x")))


async def test_echo_repeats_the_prompt_exactly(serve: Serve) -> None:
    """The reply begins with the prompt and ends with the suffix."""
    engine = serve(b"cd")
    fields: dict[str, Any] = {"echo": True, "suffix": "|", "n": 2}
    reply = await whole(engine, "é b", **fields)
    assert [choice.text for choice in reply.choices] == ["é bcd|"] * 2
    streamed = await parts(engine, "é b", **fields)
    assert [joined(streamed, i) for i in range(2)] == ["é bcd|"] * 2


async def test_echo_of_token_ids_is_their_text(serve: Serve) -> None:
    """A prompt of token ids is echoed as text without special tokens."""
    assert (await whole(serve(b"c"), [BOS_ID, *b"ab"], echo=True)).choices[0].text == "abc"


async def test_list_of_prompts_has_choices_prompt_by_prompt(serve: Serve) -> None:
    """Each prompt has n choices, and each prompt counts once."""
    engine = serve(b"!")
    reply = await whole(engine, ["ab", "c"], n=2, echo=True)
    assert [(choice.index, choice.text) for choice in reply.choices] == [
        (0, "ab!"),
        (1, "ab!"),
        (2, "c!"),
        (3, "c!"),
    ]
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (3 + 2, 8)
    streamed = await parts(engine, ["ab", "c"], n=2, echo=True)
    assert [joined(streamed, i) for i in range(4)] == ["ab!", "ab!", "c!", "c!"]


async def test_echo_with_logprobs_has_the_prompts_first(serve: Serve) -> None:
    """The prompt's logprobs come first, in whole and streamed replies, also if prefill takes
    several chunks.
    """
    engine = serve(b"cd")
    prompt = "ab" * 40
    reply = await engine.completions.create(prompt=prompt, echo=True, logprobs=1)
    found = reply.choices[0].logprobs
    assert found is not None
    assert found.tokens == ["<s>", *prompt, "c", "d", "</s>"]
    assert found.text_offset == [0, *range(83)]
    assert [logprob is None for logprob in found.token_logprobs] == [True] + [False] * 83
    streamed = await parts(engine, prompt, echo=True, logprobs=1)
    logprobs = [choice["logprobs"] for part in streamed for choice in part["choices"]]
    assert [token for part in logprobs for token in part["tokens"]] == found.tokens
    assert [value for part in logprobs for value in part["token_logprobs"]] == found.token_logprobs


async def test_no_output_at_all(serve: Serve) -> None:
    """max_tokens 0 with echo scores a prompt: the reply is the prompt alone."""
    reply = await serve(b"cd").completions.create(prompt="ab", echo=True, logprobs=0, max_tokens=0)
    (choice,) = reply.choices
    assert (choice.text, choice.finish_reason) == ("ab", "length")
    assert choice.logprobs is not None
    assert choice.logprobs.tokens == ["<s>", "a", "b"]
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 0


async def test_stop_strings_of_the_template_are_not_those_of_raw_text(serve: Serve) -> None:
    """The template's stop strings end only chat replies."""
    defaults = GenerationDefaults(eos_token_ids=frozenset({EOS_ID}), stop=("c",))
    assert (await whole(serve(b"bcd", defaults=defaults))).choices[0].text == "bcd"


async def test_usage_counts_up_to_the_stop_string(serve: Serve) -> None:
    """Usage counts the tokens of the stop string, but none after it."""
    reply = await whole(serve(b"one two three"), stop="two")
    assert reply.choices[0].text == "one "
    assert reply.usage is not None
    assert reply.usage.completion_tokens == len("one two")


async def test_min_tokens_hold_back_every_end(serve: Serve) -> None:
    """Neither a stop string nor an end token ends the text before min_tokens."""
    reply = await whole(serve(b"a.b.c.d"), stop=".", min_tokens=3)
    assert reply.choices[0].text == "a.b"
    engine = serve()
    greedy: dict[str, Any] = {"temperature": 0, "max_tokens": 10}
    likeliest = (await whole(engine, **greedy)).choices[0].text[0]
    greedy["stop_token_ids"] = [ord(likeliest)]
    assert (await whole(engine, **greedy)).choices[0].text == ""
    held_back = (await whole(engine, min_tokens=3, **greedy)).choices[0].text
    assert len(held_back) >= 3
    assert likeliest not in held_back


async def test_seed_makes_a_draw_repeatable(serve: Serve) -> None:
    """Equal seeds give equal text, streamed or not."""
    engine = serve()
    fields: dict[str, Any] = {"max_tokens": 8, "temperature": 1}
    texts = [(await whole(engine, seed=seed, **fields)).choices[0].text for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    assert joined(await parts(engine, seed=1, **fields)) == texts[0]


@pytest.mark.parametrize("prompt", [[999], [[1], [-1]]])
async def test_unknown_prompt_tokens_are_refused(serve: Serve, prompt: object) -> None:
    """Ids outside the vocabulary are refused, as they would read past the end of the embeddings."""
    with pytest.raises(InvalidRequestError, match="vocabulary"):
        await whole(serve(), prompt)


async def test_too_long_prompt_is_refused(serve: Serve) -> None:
    """The error names the prompt's length and the limit."""
    with pytest.raises(ContextLengthError, match=r"maximum context length is 1024 tokens.* has 1025 tokens"):
        await whole(serve(), "x" * 1024)


async def test_a_text_that_could_never_fit_is_not_tokenized(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text that is far too long is refused for its length alone, before it is tokenized."""
    engine = serve()
    monkeypatch.setattr(type(engine.tokenizer), "encode", None)
    with pytest.raises(ContextLengthError, match="at least"):
        await engine.completions.create(prompt=["a", "b" * 10**6])

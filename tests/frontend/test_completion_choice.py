"""One choice of a raw completion."""

from __future__ import annotations

from mlc_serve.engine.backend import TokenLogprobs
from mlc_serve.engine.request import FinishReason
from mlc_serve.frontend.choice import TextDelta
from mlc_serve.frontend.completion_choice import (
    CompletionOptions,
    CompletionWriter,
    WholeCompletionWriter,
)
from mlc_serve.frontend.completion_logprobs import joined
from mlc_serve.frontend.completion_prompt import Prompt
from mlc_serve.frontend.prompt_logprobs import PromptScores
from mlc_serve.protocol.replies import CompletionChoice, CompletionLogprobs
from mlc_serve.testing import byte_tokenizer

PROMPT = Prompt(tuple(b"ab"), "ab", (0, 1))
END = TextDelta(0, finish_reason=FinishReason.STOP)


def write(options: CompletionOptions, *deltas: TextDelta) -> list[CompletionChoice]:
    """The parts that have something to show."""
    writer = CompletionWriter(0, PROMPT, byte_tokenizer(), options)
    return [part for delta in deltas if (part := writer.write(delta)) is not None]


def whole(options: CompletionOptions, *deltas: TextDelta) -> CompletionChoice:
    """The whole choice, with logprobs if they were asked for."""
    writer = WholeCompletionWriter(0, PROMPT, PromptScores(), byte_tokenizer(), options)
    for delta in deltas:
        writer.add(delta)
    logprobs = CompletionLogprobs.model_validate_json("".join(writer.logprobs.pieces()))
    return writer.choice().model_copy(update={"logprobs": logprobs if options.num_top is not None else None})


def logprobs(text: bytes) -> tuple[TokenLogprobs, ...]:
    """A logprob for each byte."""
    return tuple(TokenLogprobs(byte, -1.0, rank=1) for byte in text)


def test_echo_comes_first_and_suffix_last() -> None:
    """Each occurs once, in any number of parts."""
    options, deltas = CompletionOptions(True, "!"), (TextDelta(0, "c"), TextDelta(0, "d"), END)
    assert [part.text for part in write(options, *deltas)] == ["abc", "d", "!"]
    choice = whole(options, *deltas)
    assert (choice.text, choice.finish_reason) == ("abcd!", "stop")


def test_delta_without_text_is_no_part() -> None:
    """The only exception is the delta that ends the choice."""
    parts = write(CompletionOptions(), TextDelta(0), TextDelta(0, "c"), END)
    assert [part.text for part in parts] == ["c", ""]


def test_logprobs_without_text_are_a_part() -> None:
    """No logprob is lost while text is held back."""
    held = TextDelta(0, logprobs=logprobs(b"c"))
    deltas = held, TextDelta(0, "cd", logprobs=logprobs(b"d")), END
    parts = write(CompletionOptions(num_top=0), *deltas)
    found = joined([part.logprobs for part in parts if part.logprobs is not None])
    assert (found.tokens, found.text_offset) == (["c", "d"], [0, 1])
    assert whole(CompletionOptions(num_top=0), *deltas).logprobs == found


def test_echo_has_the_prompts_logprobs() -> None:
    """The first token has none; offsets continue from the prompt into the output."""
    prompt = TextDelta(0, prompt_logprobs=logprobs(b"b"))
    output = TextDelta(0, "c", logprobs=logprobs(b"c"), finish_reason=FinishReason.LENGTH)
    found = whole(CompletionOptions(echo=True, num_top=0), prompt, output).logprobs
    assert found is not None
    assert (found.tokens, found.token_logprobs) == (["a", "b", "c"], [None, -1.0, -1.0])
    assert found.text_offset == [0, 1, 2]

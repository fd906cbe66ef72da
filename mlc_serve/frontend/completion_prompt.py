"""The prompts of a raw completion: their token ids, and what `echo` repeats of them. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlc_serve.frontend.params import check_prompt
from mlc_serve.loaded_model import LoadedModel
from mlc_serve.protocol.openai import CompletionRequest
from mlc_serve.text.tokenization.detokenizer import Detokenizer
from mlc_serve.text.tokenization.tokenizer import Tokenizer


@dataclass(frozen=True)
class Prompt:
    """A prompt's ids, and the text that `echo` repeats: the client's text, or the decoded ids.

    `starts` says where each token starts in the text. What nobody asked for is empty: the text of ids that
    are not echoed, and the starts if the prompt's logprobs are not in the reply.
    """

    token_ids: tuple[int, ...]
    text: str
    starts: Sequence[int] = ()


def completion_prompts(request: CompletionRequest, model: LoadedModel) -> list[Prompt]:
    """Return the tokenized prompts. Raises InvalidRequestError or ContextLengthError for a bad one."""
    return [_prompt(prompt, model, request) for prompt in request.prompt]


def _prompt(given: str | Sequence[int], model: LoadedModel, request: CompletionRequest) -> Prompt:
    prompt = _of_text(given, model, request) if isinstance(given, str) else _of_ids(given, model, request)
    check_prompt(prompt.token_ids, model, "prompt")
    return prompt


def _of_text(text: str, model: LoadedModel, request: CompletionRequest) -> Prompt:
    if not request.echoes_logprobs:
        return Prompt(tuple(model.tokenizer.encode(text, add_special_tokens=True)), text)
    token_ids, starts = model.tokenizer.encode_with_starts(text, add_special_tokens=True)
    return Prompt(tuple(token_ids), text, starts)


def _of_ids(token_ids: Sequence[int], model: LoadedModel, request: CompletionRequest) -> Prompt:
    check_prompt(token_ids, model, "prompt")
    text = model.tokenizer.decode(token_ids) if request.echo else ""
    starts = _starts(token_ids, model.tokenizer) if request.echoes_logprobs else []
    return Prompt(tuple(token_ids), text, starts)


def _starts(token_ids: Sequence[int], tokenizer: Tokenizer) -> list[int]:
    """Return for each token how many characters of the decoded text are complete before it."""
    starts, length, detokenizer = [], 0, Detokenizer(tokenizer)
    for token_id in token_ids:
        starts.append(length)
        length += len(detokenizer.push((token_id,)))
    return starts

"""What one request asks for, checked against the model that will answer it. Pure functions."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from mlc_serve.engine.constraint import Constraint
from mlc_serve.engine.sampling import SamplingParams
from mlc_serve.errors import ContextLengthError, InvalidRequestError
from mlc_serve.grammar import ReasoningLimit, Template
from mlc_serve.loaded_model import LoadedModel
from mlc_serve.protocol.openai import ChatCompletionRequest, GenerationRequest

T = TypeVar("T")

_NUM_SEEDS = 2**64


@dataclass(frozen=True)
class GenerationParams:
    """How one prompt is answered: `n` times, choice i sampled with `seed` + i, each ended by any of `stop`.

    With `continues_text` the output continues the prompt's text rather than being a new message, and with
    `shows_stop` it includes the stop string. With `lists_stop_token` the logprobs include that of a stop
    token, which is never shown. If prompt logprobs are asked for, only the first choice has them, unless
    `scores_every_choice`. Only requests of the same `cache_namespace` share cached prefixes. The special
    tokens in `shown_special` are part of the text. Every choice follows the compiled `grammar`, if there is
    one; what it forces is appended without being drawn if `jumps_forward`. `arrival` is when the request came
    (time.monotonic() seconds), or None if it comes when it is submitted.
    """

    sampling: SamplingParams = field(default_factory=SamplingParams)
    stop: tuple[str, ...] = ()
    seed: int = 0
    n: int = 1
    continues_text: bool = False
    shows_stop: bool = False
    lists_stop_token: bool = False
    scores_every_choice: bool = False
    cache_namespace: str = ""
    shown_special: frozenset[str] = frozenset()
    reasoning_limit: ReasoningLimit | None = None
    grammar: Template | None = None
    jumps_forward: bool = True
    arrival: float | None = None

    def constraint(self) -> Constraint | None:
        """Return a new constraint for one choice, or None if the output may be anything."""
        form: Constraint | None = None
        if self.grammar is not None:
            form = self.grammar.constraint(self.sampling.stop_token_ids, jumps=self.jumps_forward)
        return form if self.reasoning_limit is None else self.reasoning_limit.constraint(form)

    def sampling_of(self, choice: int) -> SamplingParams:
        """Return the sampling parameters of one choice."""
        if choice == 0 or self.scores_every_choice or self.sampling.num_prompt_logprobs is None:
            return self.sampling
        return replace(self.sampling, num_prompt_logprobs=None)

    def seed_of(self, choice: int) -> int:
        """Return the seed of one choice, in [0, 2**64)."""
        return (self.seed + choice) % _NUM_SEEDS


def sampling_params(request: GenerationRequest, model: LoadedModel) -> SamplingParams:
    """Return the request's sampling parameters, with the model's defaults for those that it doesn't set.

    Raises InvalidRequestError as `check_sampling` does.
    """
    defaults = model.defaults
    params = SamplingParams(
        temperature=_first(request.temperature, defaults.temperature),
        top_p=_first(request.top_p, defaults.top_p),
        top_k=_top_k(_first(request.top_k, defaults.top_k), model.info.vocab_size),
        min_p=_first(request.min_p, defaults.min_p),
        repetition_penalty=_first(request.repetition_penalty, defaults.repetition_penalty),
        presence_penalty=_first(request.presence_penalty, defaults.presence_penalty),
        frequency_penalty=_first(request.frequency_penalty, defaults.frequency_penalty),
        logit_bias=request.logit_bias,
        max_tokens=request.token_limit,
        min_tokens=request.min_tokens,
        stop_token_ids=_stop_token_ids(request, defaults.eos_token_ids),
    )
    check_sampling(params, model)
    return params


def check_sampling(params: SamplingParams, model: LoadedModel) -> None:
    """Raise InvalidRequestError for a token id that the model doesn't have, and if every token would end a
    sequence that must have `min_tokens` tokens.
    """
    vocab_size = model.info.vocab_size
    check_token_ids(params.logit_bias, vocab_size, "logit_bias")
    check_token_ids(params.stop_token_ids, vocab_size, "stop_token_ids")
    if params.min_tokens and len(params.stop_token_ids) == vocab_size:
        raise InvalidRequestError(
            "stop_token_ids: every token of the model is an end token, so no output can have the "
            f"{params.min_tokens} tokens that min_tokens demands.",
            "stop_token_ids",
        )


def seed(request: GenerationRequest) -> int:
    """Return the request's seed, or a random one if it has none."""
    return secrets.randbelow(_NUM_SEEDS) if request.seed is None else request.seed


def reasoning_limit(
    request: ChatCompletionRequest, model: LoadedModel, *, is_open: bool
) -> ReasoningLimit | None:
    """Return the request's limit on reasoning, or None if it has none or the model doesn't reason visibly."""
    marks = model.answers.reasoning
    if marks is None or request.reasoning_limit is None:
        return None
    tokenizer = model.tokenizer
    end_ids = tuple(tokenizer.encode(marks.end, add_special_tokens=False))
    return ReasoningLimit(
        request.reasoning_limit, marks.begin, marks.end, end_ids, tokenizer.token_bytes, is_open
    )


def cache_namespace(request: GenerationRequest, owner: str) -> str:
    """Return the prefix cache's namespace for the owner and the request's salt; empty if there is neither.

    It is a hash, so that a long salt takes no more memory than a short one.
    """
    if not owner and request.cache_salt is None:
        return ""
    return hashlib.sha256(repr((owner, request.cache_salt)).encode()).hexdigest()


def check_token_ids(token_ids: Iterable[int], vocab_size: int, param: str) -> None:
    """Raise InvalidRequestError if an id is outside the model's vocabulary."""
    for token_id in token_ids:
        if not 0 <= token_id < vocab_size:
            raise InvalidRequestError(
                f"{param}: token id {token_id} is not in the model's vocabulary of {vocab_size} tokens.",
                param,
            )


def check_text(num_characters: int, model: LoadedModel, param: str) -> None:
    """Raise ContextLengthError if a text of this length is too long for a prompt, whatever it says.

    Call this before tokenizing, which takes seconds and gigabytes for long texts.
    """
    fewest = model.tokenizer.fewest_tokens(num_characters)
    if fewest > _longest_prompt(model):
        raise _too_long(f"at least {fewest}", model, param)


def check_prompt(prompt_ids: Sequence[int], model: LoadedModel, param: str) -> None:
    """Raise if these token ids can't be a prompt: if there are none or too many, or if one is unknown."""
    if not prompt_ids:
        raise InvalidRequestError(f"{param}: the prompt has no tokens.", param)
    if len(prompt_ids) > _longest_prompt(model):
        raise _too_long(str(len(prompt_ids)), model, param)
    check_token_ids(prompt_ids, model.info.vocab_size, param)


def _longest_prompt(model: LoadedModel) -> int:
    """Return the most tokens that a prompt may have, which leaves room for one token of output."""
    return model.limits.max_single_sequence_length - 1


def _too_long(num_tokens: str, model: LoadedModel, param: str) -> ContextLengthError:
    return ContextLengthError.of_prompt(
        f"{num_tokens} tokens", model.limits.max_single_sequence_length, param
    )


def _first(asked: T | None, default: T) -> T:
    return default if asked is None else asked


def _top_k(top_k: int | None, vocab_size: int) -> int | None:
    return top_k if top_k is not None and 0 < top_k < vocab_size else None


def _stop_token_ids(request: GenerationRequest, eos_token_ids: frozenset[int]) -> frozenset[int]:
    debug_ignores = request.debug_config is not None and request.debug_config.ignore_eos
    own = frozenset() if request.ignore_eos or debug_ignores else eos_token_ids
    return own.union(request.stop_token_ids)

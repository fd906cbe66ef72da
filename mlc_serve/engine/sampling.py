"""The sampling parameters of a request, and the input of the sampler for one draw. Knows nothing about text,
logits or devices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mlc_serve.engine.constraint import Constraint


@dataclass(frozen=True)
class SamplingParams:
    """How the tokens of one sequence are chosen. The values were validated before and are in range.

    They are applied in this order: logit_bias, penalties, temperature, top_k, top_p, min_p, draw.
    `temperature` 0 is greedy. With `top_k` None all tokens are kept. The presence and frequency penalties
    count generated tokens; the repetition penalty counts prompt and generated tokens, as in transformers.
    With `max_tokens` None the request goes on until the context is full. `stop_token_ids` include the model's
    own end tokens, unless `ignore_eos` was asked for; they can't be drawn before `min_tokens`. With
    `num_top_logprobs` None no logprobs are returned, and with 0 only that of the drawn token;
    `num_prompt_logprobs` is the same for the tokens of the prompt.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    max_tokens: int | None = None
    min_tokens: int = 0
    stop_token_ids: frozenset[int] = frozenset()
    num_top_logprobs: int | None = None
    num_prompt_logprobs: int | None = None

    @cached_property
    def biased_ids(self) -> npt.NDArray[np.int64]:
        """The tokens of `logit_bias`, in the order of `biases`."""
        return np.fromiter(self.logit_bias, np.int64, len(self.logit_bias))

    @cached_property
    def biases(self) -> npt.NDArray[np.float32]:
        """The values of `logit_bias`."""
        return np.fromiter(self.logit_bias.values(), np.float32, len(self.logit_bias))

    @cached_property
    def end_ids(self) -> npt.NDArray[np.int64]:
        """The tokens of `stop_token_ids`, in any order."""
        return np.fromiter(self.stop_token_ids, np.int64, len(self.stop_token_ids))


@dataclass(frozen=True)
class Draw:
    """Everything that the choice of one token depends on, apart from its logits.

    The uniform number of a draw depends only on `seed` and `len(output_ids)`, so that a sequence that was
    preempted and recomputed draws the same tokens again. `ahead` are the drafts at the end of `output_ids`;
    `constraint`, if given, has accepted the output before them.
    """

    params: SamplingParams
    prompt_ids: Sequence[int]
    output_ids: Sequence[int]
    seed: int
    constraint: Constraint | None = None
    ahead: Sequence[int] = ()

    def after(self, draft_ids: Sequence[int]) -> Draw:
        """Return the draw that follows `draft_ids`, if this draw and those after it give these tokens."""
        return replace(self, output_ids=[*self.output_ids, *draft_ids], ahead=draft_ids)

"""Limits the size of replies that are kept until they are complete. Streamed replies have no such limit."""

from __future__ import annotations

from dataclasses import replace

from mlc_serve.engine.sampling import SamplingParams
from mlc_serve.errors import InvalidRequestError

# The most tokens and logprobs of all choices together. They take up to 25 MB here, and 130 MB as JSON.
MAX_KEPT = 2**21


def bounded(sampling: SamplingParams, num_choices: int, num_kept: int = 0) -> SamplingParams:
    """Return the parameters with max_tokens lowered so that all choices fit into a whole reply.

    `num_kept` is the number of the prompts' logprobs, which take up part of the space.
    """
    most = max(1, (MAX_KEPT - num_kept) // (num_choices * (1 + num_per_token(sampling.num_top_logprobs))))
    asked = sampling.max_tokens
    return replace(sampling, max_tokens=most if asked is None else min(asked, most))


def checked_size(num_logprobs: int, param: str) -> int:
    """Return the number of the prompts' logprobs. Raises InvalidRequestError if a reply can't hold them."""
    if num_logprobs >= MAX_KEPT:
        raise InvalidRequestError(
            f"{param}: the prompts have {num_logprobs} logprobs, but a reply can hold at most {MAX_KEPT}; "
            "send fewer prompts at a time, or stream the reply.",
            param,
        )
    return num_logprobs


def num_per_token(num_top: int | None) -> int:
    """Return the number of logprobs for each token: its own and those of its alternatives, or none."""
    return 0 if num_top is None else 1 + num_top

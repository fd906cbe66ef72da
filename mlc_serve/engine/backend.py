"""What the engine asks of a model: a paged KV cache, and a forward pass that ends in drawn tokens.

Implemented on TVM by `mlc_serve.runtime`, and without a device by `mlc_serve.testing`.
Everything here is called from the engine's thread only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mlc_serve.engine.sampling import Draw


@dataclass(frozen=True)
class TokenLogprobs:
    """The logprob of one token and those of the likeliest tokens, as (id, logprob).

    Of the model's own distribution: natural logarithms, before any bias, penalty or temperature.
    """

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class SequenceStep:
    """One sequence's part in a forward pass.

    `token_ids` (at least one) are appended to the sequence's KV. `draw` None means that more known tokens
    follow and none is to be drawn. `targets`, if given, has the length of `token_ids`: the known token that
    follows each position, whose logprob is wanted (prompt logprobs); None where none follows.
    `num_top_logprobs` is for these targets.
    """

    seq_id: int
    token_ids: Sequence[int]
    draw: Draw | None = None
    targets: Sequence[int | None] | None = None
    num_top_logprobs: int = 0


@dataclass(frozen=True)
class StepResult:
    """What came of one SequenceStep.

    `token_id` is None exactly if no draw was asked for or the step failed; `error` then says why it failed,
    and ends the request.
    `target_logprobs` has one entry for each target that is not None, in order.
    """

    token_id: int | None = None
    logprobs: TokenLogprobs | None = None
    target_logprobs: tuple[TokenLogprobs, ...] = ()
    error: str | None = None


class KVCache(Protocol):
    """Keys and values of sequences, in pages that sequences may share.

    A sequence of n tokens occupies ceil(n / page_size) pages; a fork at a multiple of page_size occupies none
    of its own until it grows. With forks at such multiples only, appending k tokens to a sequence of n takes
    exactly ceil((n + k) / page_size) - ceil(n / page_size) free pages.
    """

    page_size: int
    num_pages: int

    @property
    def num_free_pages(self) -> int:
        """Pages that belong to no sequence."""

    def add_sequence(self, seq_id: int) -> None:
        """Start an empty sequence under an id that is not in use."""

    def fork_sequence(self, parent: int, child: int, length: int) -> None:
        """Start `child` with the first `length` tokens of `parent`, a positive multiple of page_size."""

    def remove_sequence(self, seq_id: int) -> None:
        """Forget a sequence; pages that no other sequence shares become free."""

    def pop(self, seq_id: int, num_tokens: int) -> None:
        """Take the last `num_tokens` tokens off a sequence, within what it does not share."""

    def clear(self) -> None:
        """Forget all sequences."""


class Backend(Protocol):
    """A loaded model."""

    @property
    def kv(self) -> KVCache:
        """The cache that its sequences live in."""

    def run(self, steps: Sequence[SequenceStep]) -> list[StepResult]:
        """Append each step's tokens to its sequence and draw where asked: one result a step, in order.

        The free pages must suffice before the call, and the number of tokens and sequences keep to the limits
        that the model was loaded with. What fails for one step alone is that result's `error`; anything
        raised means that the device or the cache can no longer be trusted.
        """

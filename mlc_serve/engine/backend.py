"""What the engine asks of a model: the state of its sequences, and forward passes that end in drawn tokens.

Implemented on TVM by `mlc_serve.runtime`, and without a device by `mlc_serve.testing`.
Everything here is called from the engine's thread only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mlc_serve.engine.sampling import Draw
from mlc_serve.engine.sequence_state import SequenceState


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

    `token_ids` (at least one) are known, `draft_ids` guessed; all of them are appended to the sequence.
    `draws` has one entry for the token that follows `token_ids` and one for the token that follows each
    draft, where it is drawn as if the draft had been. It is empty if more known tokens follow; then there are
    no drafts.
    `targets`, if given, has the length of `token_ids`: the known token that follows each position, whose
    logprob is wanted (prompt logprobs); None where none follows. `num_top_logprobs` is for these targets.
    """

    seq_id: int
    token_ids: Sequence[int]
    draws: Sequence[Draw] = ()
    draft_ids: Sequence[int] = ()
    targets: Sequence[int | None] | None = None
    num_top_logprobs: int = 0


@dataclass(frozen=True)
class StepResult:
    """What came of one SequenceStep.

    `token_ids` are the drafts that were drawn as they had been guessed, up to the first that was not, and
    then the token that was drawn in its place or after the last draft. They are none exactly if no draw was
    asked for or the first one failed; `error` then says why it failed, and ends the request.
    `logprobs` has one entry for each of them if logprobs were asked for.
    `target_logprobs` has one entry for each target that is not None, in order.
    """

    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprobs, ...] = ()
    target_logprobs: tuple[TokenLogprobs, ...] = ()
    error: str | None = None


class Backend(Protocol):
    """A loaded model."""

    @property
    def state(self) -> SequenceState:
        """What it keeps of its sequences."""

    def run(self, steps: Sequence[SequenceStep]) -> list[StepResult]:
        """Append each step's tokens and drafts to its sequence and draw where asked: one result a step, in
        order. The caller takes off the drafts that were not kept.

        The free pages must suffice before the call, and the number of tokens and draws keep to the limits
        that the model was loaded with. What fails for one step alone is that result's `error`; anything
        raised means that the device or the state can no longer be trusted.
        """

"""What the engine asks of a model: the state of its sequences, and forward passes that end in drawn tokens.

Implemented on TVM by `mlc_serve.runtime`, and without a device by `mlc_serve.testing`.
Everything here is called from the engine's thread only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from mlc_serve.engine.sampling import Draw
from mlc_serve.engine.sequence_state import SequenceState


@dataclass(frozen=True)
class TokenLogprobs:
    """The logprob of one token, and those of the likeliest tokens as pairs (id, logprob).

    They are natural logarithms of the model's own distribution, before any bias, penalty or temperature.
    `rank`, known only for a prompt's tokens, is the token's place among all tokens, 1 for the likeliest.
    """

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()
    rank: int | None = None


class SequenceStep(NamedTuple):
    """One sequence's part in a forward pass.

    `token_ids` (at least one) are known and `draft_ids` are guessed; all are appended to the sequence.
    `draws` has one entry for the token after `token_ids`, and one for the token after each draft, which is
    drawn as if the drafts before it had been drawn. If more known tokens follow in a later step, `draws` and
    `draft_ids` are empty.
    `targets`, if given, is as long as `token_ids`. It holds the known token that follows each position and
    whose logprob is wanted (prompt logprobs), or None. `num_top_logprobs` applies to these targets.
    """

    seq_id: int
    token_ids: Sequence[int]
    draws: Sequence[Draw] = ()
    draft_ids: Sequence[int] = ()
    targets: Sequence[int | None] | None = None
    num_top_logprobs: int = 0


class StepResult(NamedTuple):
    """The result of one SequenceStep.

    `token_ids` are the drafts that were guessed right, up to the first wrong one, and then the token that was
    drawn in its place or after the last draft. `token_ids` is empty if and only if no draw was asked for or
    the first one failed. If it failed, `error` says why and the request ends.
    `logprobs` has one entry for each of `token_ids` if logprobs were asked for.
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
        """The state that the model keeps for its sequences."""

    def run(self, steps: Sequence[SequenceStep]) -> list[StepResult]:
        """Append each step's tokens and drafts to its sequence, draw where asked, and return one result per
        step, in order. The caller pops the drafts that were not kept.

        The caller makes sure that there are enough free pages, and that the numbers of tokens and draws are
        within the limits that the model was loaded with. If only one step fails, its result has an `error`.
        Any exception means that the device or the state can no longer be trusted.
        """

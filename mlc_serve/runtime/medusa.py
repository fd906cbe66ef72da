"""Drafts of heads, each of which guesses one of the next tokens from the model's last hidden state (Medusa,
Cai et al., 2024).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
import tvm_ffi

from mlc_serve.engine.backend import SequenceStep
from mlc_serve.engine.request import Request
from mlc_serve.engine.speculation.proposer import Ask
from mlc_serve.runtime.draft import Draft, extended
from mlc_serve.runtime.library import Library
from mlc_serve.runtime.model_functions import States, on_host
from mlc_serve.runtime.row_norm import RowNorm
from mlc_serve.runtime.sampler import Sampler


@dataclass
class _Sequence:
    """The model has computed `length` tokens of a sequence, and `states` are those of the last of them, as
    far as they may be asked for: a later truncation takes away drafts alone.
    """

    length: int
    states: States

    def truncate(self, length: int) -> None:
        """Forget all tokens behind the first `length`."""
        num_left = max(0, len(self.states) - (self.length - length))
        self.length, self.states = length, self.states[:num_left]


class Medusa:
    """Implements engine.speculation.proposer.Proposer and runtime.companion.Companion.

    Head n drafts the n-th token, counted from 0, after the one that was drawn last, from the state of the
    last token that is computed. No head knows what the others have drafted.
    """

    def __init__(
        self, library: Library, params: list[tvm.runtime.Tensor], norm: RowNorm, tap: int, sampler: Sampler
    ) -> None:
        """`library` is that of the heads. What the model's layer `tap` gets, normalised, is what they read,
        and `sampler` draws from logits of the model's vocabulary.
        """
        self.taps: tuple[int, ...] = (tap,)
        self._device = library.device
        self._params = tvm_ffi.convert(params)  # only once: a list would be converted in each call
        self._heads = [library.function(f"head_{number}") for number in range(library.metadata["num_heads"])]
        self._norm = norm
        self._sampler = sampler
        self._none = np.empty((0, library.metadata["hidden_size"]), np.float32)
        self._sequences: dict[int, _Sequence] = {}

    def propose(self, asks: Sequence[Ask]) -> list[Sequence[int]]:
        """See Proposer."""
        drafts = [Draft.of(ask) for ask in asks]
        growing = [draft for draft in drafts if len(self._states_of(draft))]
        states = {draft: self._norm(self._states_of(draft)[-1:]) for draft in growing}
        for head in self._heads:
            growing = [draft for draft in growing if draft.may_grow]
            if growing:
                rows = np.stack([states[draft] for draft in growing], axis=1)
                growing = extended(growing, self._logits(head, rows), self._sampler)
        return [draft.drafts for draft in drafts]

    def _states_of(self, draft: Draft) -> States:
        """The states that are kept for a request. There are none if its sequence was just forked."""
        return self._sequences[draft.seq_id].states

    def _logits(self, head: Callable[..., Any], states: States) -> States:
        """States `(1, n, width)` -> what a head makes of them, `(n, vocab)`."""
        return on_host(head(tvm.runtime.tensor(states, self._device), self._params), self._device)

    def forget(self, request: Request) -> None:
        """See Proposer. What is kept belongs to sequences."""

    def add_sequence(self, seq_id: int) -> None:
        """See Companion."""
        self._sequences[seq_id] = _Sequence(0, self._none)

    def fork_sequence(self, parent: int, child: int, length: int) -> None:  # noqa: ARG002
        """See Companion. The child has a state as soon as it computes a token."""
        self._sequences[child] = _Sequence(length, self._none)

    def truncate(self, seq_id: int, length: int) -> None:
        """See Companion."""
        self._sequences[seq_id].truncate(length)

    def remove_sequence(self, seq_id: int) -> None:
        """See Companion."""
        del self._sequences[seq_id]

    def passed(self, steps: Sequence[SequenceStep], states: States) -> None:
        """See Companion. Of each step, the states of the drafts and of the token before them are kept."""
        end = 0
        for step in steps:
            num_tokens, num_drafts = len(step.token_ids), len(step.draft_ids)
            end += num_tokens + num_drafts
            sequence = self._sequences[step.seq_id]
            sequence.length += num_tokens + num_drafts
            sequence.states = states[end - num_drafts - 1 : end].copy()

    def imported(self, seq_id: int, num_tokens: int) -> None:
        """See Companion. There is a state again as soon as the sequence computes a token."""
        self._sequences[seq_id] = _Sequence(self._sequences[seq_id].length + num_tokens, self._none)

    def clear(self) -> None:
        """See Companion."""
        self._sequences.clear()

"""How the steps of several sequences become forward passes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import tvm

from mlc_serve.engine.backend import SequenceStep
from mlc_serve.engine.limits import EngineLimits
from mlc_serve.runtime.library import Library
from mlc_serve.runtime.model_functions import Computed, ModelFunctions
from mlc_serve.runtime.recurrent_passes import RecurrentPasses
from mlc_serve.runtime.sequence_cache import SequenceCache, cache_for


class Passes(Protocol):
    """The state of a model's sequences, and the passes that change it."""

    @property
    def state(self) -> SequenceCache:
        """The state of all sequences."""

    def forward(self, steps: Sequence[SequenceStep], rows: list[int]) -> Computed:
        """Append the steps' tokens to their sequences, and return the logits of the given rows of the batch,
        and the states of all of its rows, in the order of the steps.
        """


class PagedPasses:
    """Implements Passes for models whose layers all attend: one pass takes all steps, of any lengths."""

    def __init__(self, library: Library, params: list[tvm.runtime.Tensor], limits: EngineLimits) -> None:
        self.state = cache_for(library, limits)
        self._functions = ModelFunctions(library, params, limits, self.state)

    def forward(self, steps: Sequence[SequenceStep], rows: list[int]) -> Computed:
        """See Passes."""
        lengths = [len(step.token_ids) + len(step.draft_ids) for step in steps]
        ids = [token for step in steps for token in (*step.token_ids, *step.draft_ids)]
        seq_ids = [step.seq_id for step in steps]
        if len(ids) == len(steps) == len(rows):
            return self._functions.decode(ids, seq_ids)
        return self._functions.prefill(ids, seq_ids, lengths, rows)


def passes_for(library: Library, params: list[tvm.runtime.Tensor], limits: EngineLimits) -> Passes:
    """Return the passes of the kind that the library's model needs."""
    if library.is_recurrent:
        return RecurrentPasses(library, params, limits)
    return PagedPasses(library, params, limits)

"""Runs forward passes, and draws tokens from their logits. Runs on the engine's thread."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate, islice, zip_longest

import numpy as np
import tvm

from mlc_serve.engine.backend import SequenceStep, StepResult, TokenLogprobs
from mlc_serve.engine.limits import EngineLimits
from mlc_serve.engine.sequence_state import SequenceState
from mlc_serve.runtime.accompanied_state import AccompaniedState
from mlc_serve.runtime.companion import Companion
from mlc_serve.runtime.compiled_rows import rows_for
from mlc_serve.runtime.library import Library
from mlc_serve.runtime.model_functions import Logits
from mlc_serve.runtime.passes import passes_for
from mlc_serve.runtime.sampler import NO_NUMBER, Drawn, Sampler


class TVMBackend:
    """Implements engine.backend.Backend.

    A step that asks for the logprobs of known tokens runs alone, a slice at a time: it needs the logits of
    every row, and those of a whole chunk would take more memory than the model. A `companion` is told of all
    changes of sequences.
    """

    def __init__(
        self,
        library: Library,
        params: list[tvm.runtime.Tensor],
        limits: EngineLimits,
        companion: Companion | None = None,
    ) -> None:
        self._sampler = Sampler(rows_for(library))
        self._passes = passes_for(library, params, limits)
        if companion is not None and companion.taps not in ((), library.taps):
            raise ValueError(f"the companion reads the taps {companion.taps}, not {library.taps}")
        self._accompanied = None if companion is None else AccompaniedState(self._passes.state, companion)
        self.state: SequenceState = self._accompanied or self._passes.state
        self._max_rows = library.info.max_batch_size

    def run(self, steps: Sequence[SequenceStep]) -> list[StepResult]:
        """Run a forward pass over all steps, and draw the tokens that they ask for."""
        results: dict[int, StepResult] = {}
        plain = [i for i, step in enumerate(steps) if step.targets is None]
        if plain:
            results.update(zip(plain, self._run_plain([steps[i] for i in plain]), strict=True))
        for i, step in enumerate(steps):
            if step.targets is not None:
                results[i] = self._run_scored(step, step.targets)
        return [results[i] for i in range(len(steps))]

    def _run_plain(self, steps: list[SequenceStep]) -> list[StepResult]:
        ends = accumulate(len(step.token_ids) + len(step.draft_ids) for step in steps)
        spans = [range(end - len(step.draws), end) for step, end in zip(steps, ends, strict=True)]
        rows = [row for span in spans for row in span]
        logits = self.forward(steps, rows)
        drawn = iter(self._sampler.sample(logits, [draw for step in steps for draw in step.draws]))
        return [_result(step.draft_ids, list(islice(drawn, len(step.draws)))) for step in steps]

    def _run_scored(self, step: SequenceStep, targets: Sequence[int | None]) -> StepResult:
        scores: list[TokenLogprobs] = []
        logits = np.empty((0, 0), np.float32)
        for start in range(0, len(step.token_ids), self._max_rows):
            ids = step.token_ids[start : start + self._max_rows]
            logits = self.forward([SequenceStep(step.seq_id, ids)], list(range(len(ids))))
            scores += self._sampler.score(
                logits, targets[start : start + self._max_rows], step.num_top_logprobs
            )
        if not all(math.isfinite(score.logprob) for score in scores):
            return StepResult(error=NO_NUMBER)
        drawn = self._sampler.sample(logits[-1:], step.draws) if step.draws else []
        return _result((), drawn)._replace(target_logprobs=tuple(scores))

    def forward(self, steps: Sequence[SequenceStep], rows: list[int]) -> Logits:
        """Append the steps' tokens to their sequences, and return the logits of the given rows of the batch.

        The logits have the shape `(len(rows), vocab)`.
        """
        computed = self._passes.forward(steps, rows)
        if self._accompanied is not None:
            self._accompanied.passed(steps, computed.states)
        return computed.logits


def _result(draft_ids: Sequence[int], drawn: Sequence[Drawn]) -> StepResult:
    """Return the drawn tokens up to the first one that differs from its draft.

    If a draw after the first one fails, it is made again in the next step.
    """
    if drawn and drawn[0].error is not None:
        return StepResult(error=drawn[0].error)
    kept: list[Drawn] = []
    for one, draft_id in zip_longest(drawn, draft_ids):
        if one.token_id is None:
            break
        kept.append(one)
        if one.token_id != draft_id:
            break
    logprobs = tuple(one.logprobs for one in kept if one.logprobs is not None)
    return StepResult(tuple(one.token_id for one in kept if one.token_id is not None), logprobs)

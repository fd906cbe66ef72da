"""The sampler's work on logits, done by kernels of the model's library.

Runs on the engine's thread, because TVM's workers belong to the thread that calls TVM.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mlc_serve.runtime.library import Library
from mlc_serve.runtime.rows import Choices, Histories, Ids, Logits, NumPyRows, RowOperations, Scores, Settings

_KERNELS = ("choose_tokens", "score_rows", "penalize_tokens", "mask_tokens")


class CompiledRows:
    """Implements runtime.rows.RowOperations without copying logits. Each row is one task of TVM's workers."""

    def __init__(self, kernel: Callable[[str], Callable[..., None]]) -> None:
        """`kernel` returns a kernel by its name in mlc_serve.compiler.kernels.cpu.sampling.kernels."""
        self._choose, self._score, self._penalize, self._mask = map(kernel, _KERNELS)

    def choose(self, logits: Logits, settings: Settings) -> Choices:
        choices = Choices(np.empty(len(logits), np.int32), np.empty(len(logits), np.float32))
        self._choose(logits, settings, choices.tokens, choices.peaks)
        return choices

    def score(self, logits: Logits, wanted: Ids) -> Scores:
        shape = (len(wanted), max(int(wanted[:, 1].max(initial=0)), 1))
        scores = Scores(np.empty(len(wanted)), np.empty(len(wanted), np.int32), np.zeros(shape, np.int32))
        self._score(logits, wanted, scores.normalizers, scores.num_listed, scores.ids)
        return scores

    def penalize(self, logits: Logits, histories: Histories) -> None:
        self._penalize(logits, histories.ids, histories.spans, histories.penalties)

    def mask(self, logits: Logits, rows: Ids, masks: Ids) -> None:
        self._mask(logits, rows, masks)


def rows_for(library: Library) -> RowOperations:
    """Return the library's kernels as row operations, or NumPy's if it has none or does not run on a CPU."""
    if library.device.type == "cpu" and all(library.has_kernel(name) for name in _KERNELS):
        return CompiledRows(library.kernel)
    return NumPyRows()

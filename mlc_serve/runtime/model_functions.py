"""The functions of a library that turn tokens into logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tvm

from mlc_serve.engine.limits import EngineLimits
from mlc_serve.runtime.forward_pass import ForwardPass
from mlc_serve.runtime.ids import IdBuffer
from mlc_serve.runtime.library import Library
from mlc_serve.runtime.sequence_cache import SequenceCache

Logits = npt.NDArray[np.float32]
States = npt.NDArray[np.float32]


class Computed(NamedTuple):
    """What a forward pass has computed: the logits of some rows, `(n, vocab)`, and the states of all rows,
    `(num_rows, width)`, those of each of the library's taps side by side. Without taps their width is 0.
    Both are valid only until the next pass.
    """

    logits: Logits
    states: States


def without_states(logits: Logits, num_rows: int) -> Computed:
    """What a pass over `num_rows` tokens has computed if the library has no taps."""
    return Computed(logits, np.empty((num_rows, 0), np.float32))


class ModelFunctions:
    """Each call is one forward pass, which appends the tokens `ids` to the sequences."""

    def __init__(
        self,
        library: Library,
        params: list[tvm.runtime.Tensor],
        limits: EngineLimits,
        state: SequenceCache,
    ) -> None:
        self._device = library.device
        self._has_taps = bool(library.taps)
        self._pass = ForwardPass(library, params, limits, state)
        self._positions = IdBuffer(limits.prefill_chunk_size, library.device)
        self._prefill = library.function("batch_prefill")
        self._decode = library.function("batch_decode")

    def decode(self, ids: Sequence[int], seq_ids: Sequence[int]) -> Computed:
        """Append one token to each sequence, and return the logits after each."""
        result = self._pass.run(self._decode, ids, seq_ids, [1] * len(ids), (len(ids), 1))
        return self._computed(result, len(ids))

    def prefill(
        self, ids: Sequence[int], seq_ids: Sequence[int], lengths: Sequence[int], rows: Sequence[int]
    ) -> Computed:
        """Append `lengths` tokens to each sequence, and return the logits of these rows of the batch."""
        positions = self._positions.tensor(rows or [len(ids) - 1])
        result = self._pass.run(self._prefill, ids, seq_ids, lengths, (1, len(ids)), positions)
        logits, states = self._computed(result, len(ids))
        return Computed(logits[: len(rows)], states)

    def _computed(self, result: Any, num_rows: int) -> Computed:
        if not self._has_taps:
            return without_states(on_host(result, self._device), num_rows)
        logits, states = result
        return Computed(on_host(logits, self._device), on_host(states, self._device))


def on_host(tensor: Any, device: tvm.runtime.Device) -> npt.NDArray[np.float32]:
    """A tensor on `device` as rows `(n, width)`, which are copied only if that is not the CPU."""
    found: Any = np.from_dlpack(tensor) if device.type == "cpu" else tensor.numpy()
    rows: npt.NDArray[np.float32] = found.reshape(-1, found.shape[-1])
    return rows

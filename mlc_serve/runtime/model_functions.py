"""The functions of a library that turn tokens into logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tvm

from mlc_serve.engine.limits import EngineLimits
from mlc_serve.runtime.forward_pass import ForwardPass
from mlc_serve.runtime.ids import IdBuffer
from mlc_serve.runtime.library import Library
from mlc_serve.runtime.sequence_cache import SequenceCache

Logits = npt.NDArray[np.float32]


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
        self._pass = ForwardPass(library, params, limits, state)
        self._positions = IdBuffer(limits.prefill_chunk_size, library.device)
        self._prefill = library.function("batch_prefill")
        self._decode = library.function("batch_decode")

    def decode(self, ids: Sequence[int], seq_ids: Sequence[int]) -> Logits:
        """Append one token to each sequence, and return the logits after each, `(len(ids), vocab)`."""
        return self._on_host(self._pass.run(self._decode, ids, seq_ids, [1] * len(ids), (len(ids), 1)))

    def prefill(
        self, ids: Sequence[int], seq_ids: Sequence[int], lengths: Sequence[int], rows: Sequence[int]
    ) -> Logits:
        """Append `lengths` tokens to each sequence, and return the logits of some rows of the batch,
        `(len(rows), vocab)`.
        """
        positions = self._positions.tensor(rows or [len(ids) - 1])
        logits = self._pass.run(self._prefill, ids, seq_ids, lengths, (1, len(ids)), positions)
        return self._on_host(logits)[: len(rows)]

    def _on_host(self, logits: Any) -> Logits:
        """Logits `(n, vocab)`, which are copied only from a device."""
        on_host: Any = np.from_dlpack(logits) if self._device.type == "cpu" else logits.numpy()
        rows: Logits = on_host.reshape(-1, on_host.shape[-1])
        return rows

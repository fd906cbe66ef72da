"""Makes embeddings with a model that generates text, of the hidden states before its LM head. Runs on the
engine's thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import tvm

from mlc_serve.engine.embedder import TokenIds, Vectors
from mlc_serve.engine.limits import EngineLimits
from mlc_serve.engine.pooling import Pooling
from mlc_serve.runtime.forward_pass import ForwardPass
from mlc_serve.runtime.library import Library
from mlc_serve.runtime.sequence_cache import cache_for


class DecoderEmbedder:
    """Implements engine.embedder.Embedder. Input i of a batch is sequence i of the KV cache, which is empty
    between two batches.
    """

    def __init__(
        self,
        library: Library,
        params: list[tvm.runtime.Tensor],
        width: int,
        limits: EngineLimits,
        pooling: Pooling,
    ) -> None:
        self.width = width
        self._pooling = pooling
        self._state = cache_for(library, limits)
        self._forward = ForwardPass(library, params, limits, self._state)
        self._chunk = limits.prefill_chunk_size
        self._prefill = library.function("batch_prefill_to_last_hidden_states")

    def embed(self, inputs: Sequence[TokenIds]) -> Vectors:
        """See Embedder.embed."""
        first_rows = [0, *accumulate(map(len, inputs))]
        for seq_id in range(len(inputs)):
            self._state.add_sequence(seq_id)
        try:
            ids = np.concatenate(inputs)
            starts = range(0, len(ids), self._chunk)
            states = [self._pass(ids[start : start + self._chunk], start, first_rows) for start in starts]
        finally:
            self._state.clear()
        return self._pooling.pool(np.concatenate(states), first_rows)

    def _pass(self, ids: TokenIds, start: int, first_rows: Sequence[int]) -> Vectors:
        """Return the hidden states `(len(ids), width)` of the batch's rows from `start`."""
        end = start + len(ids)
        parts = {
            seq_id: min(end, first_rows[seq_id + 1]) - max(start, first_rows[seq_id])
            for seq_id in range(len(first_rows) - 1)
        }
        lengths = {seq_id: length for seq_id, length in parts.items() if length > 0}
        batch = (1, len(ids))
        states = self._forward.run(self._prefill, ids, list(lengths), list(lengths.values()), batch)
        on_host: Vectors = states.numpy()[0].astype(np.float32)
        return on_host

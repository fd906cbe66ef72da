"""Runs a compiled encoder. Runs on the engine's thread."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import tvm
import tvm_ffi

from mlc_serve.engine.embedder import TokenIds, Vectors
from mlc_serve.engine.pooling import Pooling
from mlc_serve.runtime.ids import IdBuffer
from mlc_serve.runtime.library import Library


class EncoderEmbedder:
    """Implements engine.embedder.Embedder. The inputs of a batch follow one another, without padding."""

    def __init__(self, library: Library, params: list[tvm.runtime.Tensor], pooling: Pooling) -> None:
        self.width = int(library.metadata["embedding_size"])
        self._pooling = pooling
        self._first_position = int(library.metadata["first_position"])
        self._params = tvm_ffi.convert(params)  # only once: a list would be converted in each call
        most = int(library.metadata["prefill_chunk_size"])
        self._ids, self._positions = IdBuffer(most, library.device), IdBuffer(most, library.device)
        self._first_rows = IdBuffer(int(library.metadata["max_batch_size"]) + 1, library.device)
        self._encode = library.function("encode")

    def embed(self, inputs: Sequence[TokenIds]) -> Vectors:
        """See Embedder.embed."""
        first_rows = [0, *accumulate(map(len, inputs))]
        positions = np.concatenate([np.arange(len(ids), dtype=np.int32) for ids in inputs])
        states: Any = self._encode(
            self._ids.tensor(np.concatenate(inputs)),
            self._positions.tensor(positions + self._first_position),
            self._first_rows.tensor(first_rows),
            self._params,
        )
        on_host: Any = np.from_dlpack(states)
        return self._pooling.pool(on_host, first_rows)

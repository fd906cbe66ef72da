"""The functions of a library that turn tokens into logits, called over the state of their sequences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tvm
import tvm_ffi

from mlc_serve.engine.limits import EngineLimits
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
        self._state = state
        self._device = library.device
        self._params = tvm_ffi.convert(params)  # only once: a list would be converted in each call
        self._ids = IdBuffer(limits.prefill_chunk_size, library.device)
        self._positions = IdBuffer(limits.prefill_chunk_size, library.device)
        self._embed = library.function("embed")
        self._prefill = library.function("batch_prefill")
        self._decode = library.function("batch_decode")

    def decode(self, ids: Sequence[int], seq_ids: Sequence[int]) -> Logits:
        """Append one token to each sequence, and return the logits after each, `(len(ids), vocab)`."""

        def call(embeddings: Any) -> Any:
            rows = _view(embeddings, (embeddings.shape[0], 1, embeddings.shape[1]))
            return self._decode(rows, *self._state.arguments, self._params)

        return self._run(ids, seq_ids, [1] * len(seq_ids), call)

    def prefill(
        self, ids: Sequence[int], seq_ids: Sequence[int], lengths: Sequence[int], rows: Sequence[int]
    ) -> Logits:
        """Append `lengths` tokens to each sequence, and return the logits of some rows of the batch,
        `(len(rows), vocab)`.
        """
        positions = self._positions.tensor(rows or [len(ids) - 1])

        def call(embeddings: Any) -> Any:
            batch = _view(embeddings, (1, *embeddings.shape))
            return self._prefill(batch, positions, *self._state.arguments, self._params)

        return self._run(ids, seq_ids, lengths, call)[: len(rows)]

    def _run(
        self,
        ids: Sequence[int],
        seq_ids: Sequence[int],
        lengths: Sequence[int],
        call: Callable[[Any], Any],
    ) -> Logits:
        embeddings = self._embed(self._ids.tensor(ids), self._params)
        self._state.begin_forward(seq_ids, lengths)
        try:
            logits = self._to_host(self._state.result_of(call(embeddings)))
        finally:
            self._state.end_forward()
        return logits.reshape(-1, logits.shape[-1])

    def _to_host(self, tensor: Any) -> Logits:
        if self._device.type == "cpu":
            return np.from_dlpack(tensor)  # type: ignore[return-value]  # NumPy can't know the element type
        return tensor.numpy()  # type: ignore[no-any-return]  # TVM is untyped


def _view(tensor: Any, shape: tuple[int, ...]) -> Any:
    return tensor._create_view(shape)

"""One forward pass: a call of one of a library's functions, over the state of its sequences."""

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


class ForwardPass:
    """Appends tokens to sequences, and calls a function with their embeddings."""

    def __init__(
        self,
        library: Library,
        params: list[tvm.runtime.Tensor],
        limits: EngineLimits,
        state: SequenceCache,
    ) -> None:
        self._state = state
        self._params = tvm_ffi.convert(params)  # only once: a list would be converted in each call
        self._ids = IdBuffer(limits.prefill_chunk_size, library.device)
        self._embed = library.function("embed")

    def run(
        self,
        function: Callable[..., Any],
        ids: Sequence[int] | npt.NDArray[np.int32],
        seq_ids: Sequence[int],
        lengths: Sequence[int],
        batch: tuple[int, int],
        *operands: Any,
    ) -> Any:
        """Append the next `lengths` of `ids` to each sequence, and return the function's result. It gets the
        embeddings as `(*batch, width)`, and `operands`.
        """
        embeddings = self._embed(self._ids.tensor(ids), self._params)
        rows = embeddings._create_view((*batch, embeddings.shape[1]))
        self._state.begin_forward(seq_ids, lengths)
        try:
            returned = function(rows, *operands, *self._state.arguments, self._params)
        finally:
            self._state.end_forward()
        return self._state.result_of(returned)

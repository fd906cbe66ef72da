"""The state of a batch's sequences in a model of which some layers attend and others are recurrent."""

from __future__ import annotations

from typing import Any

from tvm.relax.frontend import nn
from tvm.relax.frontend.nn.llm.kv_cache import PagedKVCache

from mlc_serve.models.parts.recurrent import RecurrentShape
from mlc_serve.models.rnn_state import RNNState


class HybridState:
    """A KV cache, whose layers are those that attend, and a recurrent state, whose layers are the others. It
    is used within one function of a module, in which the batch has `batch` sequences.
    """

    def __init__(self, cache: PagedKVCache, recurrent: RNNState, shape: RecurrentShape, batch: Any) -> None:
        self.cache = cache
        self.recurrent = recurrent
        self._shape = shape
        self._batch = batch

    def attention_with_fused_qkv(self, *arguments: Any) -> nn.Tensor:
        """As the KV cache does."""
        return self.cache.attention_with_fused_qkv(*arguments)

    def get(self, layer: int, number: int) -> nn.Tensor:
        """A state of a recurrent layer, as the forward pass before has left it."""
        return self.recurrent.get(layer, number, (self._batch, *self._shape.states[number]))

    def set(self, layer: int, number: int, value: nn.Tensor) -> None:
        """Keep a state for the next forward pass."""
        self.recurrent = self.recurrent.set(layer, number, value)

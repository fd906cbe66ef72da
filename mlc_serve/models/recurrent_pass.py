"""The states of recurrent layers during one function of a module."""

from __future__ import annotations

from typing import Any

from tvm.relax.frontend import nn

from mlc_serve.models.parts.recurrent import RecurrentShape
from mlc_serve.models.rnn_state import RNNState


class RecurrentPass:
    """The states of a batch of `batch` sequences. `state` is TVM's, as the last layer has left it."""

    def __init__(self, state: RNNState, shape: RecurrentShape, batch: Any) -> None:
        self.state = state
        self._shape = shape
        self._batch = batch

    def get(self, layer: int, number: int) -> nn.Tensor:
        """A state of a layer, as the forward pass before has left it."""
        return self.state.get(layer, number, (self._batch, *self._shape.states[number]))

    def set(self, layer: int, number: int, value: nn.Tensor) -> None:
        """Keep a state of a layer for the next forward pass."""
        self.state = self.state.set(layer, number, value)

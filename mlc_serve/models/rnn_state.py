"""TVM's recurrent state, as functions of a module take it."""

from __future__ import annotations

from typing import Any

from tvm import relax
from tvm.relax.frontend import nn


class RNNState(nn.Object):
    """The states of a batch's sequences: float32 tensors, numbered in each layer."""

    def get(self, layer: int, number: int, shape: tuple[Any, ...]) -> nn.Tensor:
        """A state as the forward pass before has left it; `shape` begins with the number of sequences."""
        call = relax.call_dps_packed(
            "vm.builtin.rnn_state_get",
            [self._expr, relax.prim_value(layer), relax.prim_value(number)],
            out_ty=relax.TensorType(shape, "float32"),
        )
        return nn.Tensor(_expr=relax.BlockBuilder.current().emit(call))

    def set(self, layer: int, number: int, value: nn.Tensor) -> RNNState:
        """The state with a new value, which the next forward pass gets."""
        call = relax.call_pure_packed(
            "vm.builtin.rnn_state_set",
            self._expr,
            relax.prim_value(layer),
            relax.prim_value(number),
            value._expr,
            ty_args=[relax.AnyType()],
        )
        return RNNState(_expr=relax.BlockBuilder.current().emit(call), _name="rnn_state")

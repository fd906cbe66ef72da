"""The layers that only recurrent models have. The compiler supplies them, made for a device.

Activations are float32 of the shape `(1, n, width)`: the tokens of b sequences of the same length, one
sequence after another.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from tvm import tirx
from tvm.relax.frontend import nn

from mlc_serve.models.parts.recurrent import RecurrentShape
from mlc_serve.models.rnn_state import RNNState


class WKV6Operands(NamedTuple):
    """What the recurrence of RWKV-6 takes besides its state: receptance, key, value, and the part of the
    decay that depends on the token, `(1, n, width)`; the other part of the decay `(1, 1, width)`; and the
    bonus of the present token `(heads, head_dim)`.
    """

    receptance: nn.Tensor
    key: nn.Tensor
    value: nn.Tensor
    decay: nn.Tensor
    base_decay: nn.Parameter
    bonus: nn.Parameter


class RecurrentLayers(Protocol):
    """Makes the layers of a recurrent model."""

    low_rank_dtype: str  # of the matrices that `low_rank_product` takes

    def mix(self, x: nn.Tensor, last: nn.Tensor, share: nn.Parameter) -> nn.Tensor:
        """X + (the row before - X) * share `(1, 1, width)`. `last` `(b, width)` has the rows before the first
        one of each sequence.
        """

    def dynamic_mix(
        self, x: nn.Tensor, last: nn.Tensor, share: nn.Parameter, changes: nn.Tensor, number: int
    ) -> nn.Tensor:
        """Like `mix` with share + part `number` of the changes `(1, n, parts * width)`."""

    def last_rows(self, x: nn.Tensor, last: nn.Tensor) -> nn.Tensor:
        """The last row of each sequence, in the shape of `last`, `(b, width)`."""

    def low_rank_product(self, x: nn.Tensor, weight: nn.Parameter, *, tanh: bool = False) -> nn.Tensor:
        """`(1, n, parts * k)` -> `(1, n, parts * m)`, or its tanh: each part of a row times its own matrix.
        The weight is `(parts, k, m)`, or `(k, m)` if there is one part.
        """

    def wkv6(self, operands: WKV6Operands, state: nn.Tensor) -> tuple[nn.Tensor, nn.Tensor]:
        """The result of the recurrence `(1, n, width)`, and the new state."""

    def gated_group_norm(self, num_heads: int, width: int, epsilon: float) -> nn.Module:
        """A module that normalises each head by itself, with a `weight` and a `bias`, and multiplies it by
        the SiLU of gates: two tensors `(1, n, width)` -> one.
        """

    def add_gated(self, residual: nn.Tensor, x: nn.Tensor, gate: nn.Tensor) -> nn.Tensor:
        """Residual + sigmoid(gate) * X."""

    def short_conv(
        self, x: nn.Tensor, weight: nn.Parameter, bias: nn.Parameter | None, state: nn.Tensor
    ) -> tuple[nn.Tensor, nn.Tensor]:
        """The gated convolution of LFM2: three parts of each row `(1, n, 3 * width)`, weight
        `(width, 1, taps)` -> `(1, n, width)`, and the new state `(b, taps - 1, width)`.
        """

    def new_state(self, shape: RecurrentShape, max_batch_size: tirx.Var, max_history: tirx.Var) -> RNNState:
        """An empty state, with room for the last `max_history` states of each sequence."""

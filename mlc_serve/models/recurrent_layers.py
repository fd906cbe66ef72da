"""The layers that only recurrent models have. The compiler supplies them, made for a device.

Activations are float32 of the shape `(1, n, width)`: the tokens of b sequences of the same length, one
sequence after another.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from tvm import tirx
from tvm.relax.frontend import nn

from mlc_serve.models.parts.gated_delta import DeltaHeads
from mlc_serve.models.parts.norm import Norm
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

    def gated_norm(self, spec: Norm, num_heads: int, *, shared: bool = False) -> nn.Module:
        """A module that normalises each head of rows `(1, n, width)` by itself, and multiplies it by the SiLU
        of gates, which are the last `width` values of other rows. Its weight, and its bias if it has one, are
        `(width,)`, or if heads have them `shared`, as long as a head.
        """

    def add_gated(self, residual: nn.Tensor, x: nn.Tensor, gate: nn.Tensor) -> nn.Tensor:
        """Residual + sigmoid(gate) * X."""

    def causal_conv(
        self,
        x: nn.Tensor,
        weight: nn.Parameter,
        bias: nn.Parameter | None,
        state: nn.Tensor,
        *,
        is_gated: bool,
    ) -> tuple[nn.Tensor, nn.Tensor]:
        """A convolution with a weight `(width, 1, taps)` -> `(1, n, width)`, and the new state
        `(b, taps - 1, width)`. It takes the first values of rows, and SiLU is applied to its result; or if it
        `is_gated`, rows have the parts B, C and V, it takes B * V, and its result is multiplied by C.
        """

    def gated_delta(
        self,
        heads: DeltaHeads,
        qkv: nn.Tensor,
        ba: nn.Tensor,
        log_decay: nn.Parameter,
        bias: nn.Parameter,
        state: nn.Tensor,
    ) -> tuple[nn.Tensor, nn.Tensor]:
        """The gated delta rule: `(1, n, heads.v_width)`, and the new state. `ba` `(1, n, 2 * num_v_heads)`
        are the strengths of changes before their sigmoid, and what decays depend on.
        """

    def gated(self, x: nn.Tensor, gate: nn.Tensor) -> nn.Tensor:
        """sigmoid(gate) * X, float32."""

    def new_state(self, shape: RecurrentShape, max_batch_size: tirx.Var, max_history: tirx.Var) -> RNNState:
        """An empty state, with room for the last `max_history` states of each sequence."""

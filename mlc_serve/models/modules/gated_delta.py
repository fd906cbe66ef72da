"""The module of a gated delta rule."""

from __future__ import annotations

from typing import Any

from tvm.relax.frontend import nn

from mlc_serve.models.layers import Layers, State
from mlc_serve.models.modules.short_conv import Taps
from mlc_serve.models.parts.gated_delta import GatedDelta
from mlc_serve.models.parts.norm import Norm

_CONVOLUTION, _MATRICES = range(2)  # the numbers of a layer's states


class GatedDeltaModule(nn.Module):
    """See GatedDelta. It is number `layer` of the recurrent layers, and its input rows have `hidden_size`
    values.
    """

    def __init__(self, part: GatedDelta, hidden_size: int, layer: int, layers: Layers) -> None:
        heads = part.heads
        self.part, self.layer, self.make = part, layer, layers.recurrent()
        self.in_proj_qkvz = layers.linear(hidden_size, heads.qkv_width + heads.v_width)
        self.in_proj_ba = layers.linear(hidden_size, 2 * heads.num_v_heads)
        self.conv1d = Taps(heads.qkv_width, part.taps)
        self.A_log = nn.Parameter([heads.num_v_heads], "float32")
        self.dt_bias = nn.Parameter([heads.num_v_heads], "float32")
        norm = Norm("rms", heads.value_dim, part.epsilon)
        self.delta_norm = self.make.gated_norm(norm, heads.num_v_heads, shared=True)
        self.delta_out_proj = layers.linear(heads.v_width, hidden_size)

    def forward(self, x: Any, state: State) -> nn.Tensor:
        """What a norm returned -> `(1, n, hidden_size)`."""
        return self.delta_out_proj(self._mixed(x, state))

    def add_to(self, residual: nn.Tensor, x: Any, state: State, scale: float) -> nn.Tensor:
        """Residual + scale * self(x)."""
        return self.delta_out_proj.add_to(residual, self._mixed(x, state), scale)

    def _mixed(self, x: Any, state: State) -> nn.Tensor:
        states = state.recurrent
        before, matrices = states.get(self.layer, _CONVOLUTION), states.get(self.layer, _MATRICES)
        rows, strengths = self.in_proj_qkvz(x), self.in_proj_ba(x)
        qkv, last = self.make.causal_conv(rows, self.conv1d.weight, None, before, is_gated=False)
        states.set(self.layer, _CONVOLUTION, last)
        out, matrices = self.make.gated_delta(
            self.part.heads, qkv, strengths, self.A_log, self.dt_bias, matrices
        )
        states.set(self.layer, _MATRICES, matrices)
        return self.delta_norm(out, rows)

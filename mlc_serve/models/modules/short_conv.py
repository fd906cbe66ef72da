"""The module of a gated short convolution."""

from __future__ import annotations

from typing import Any

from tvm.relax.frontend import nn

from mlc_serve.models.layers import Layers, State
from mlc_serve.models.parts.short_conv import ShortConv


class Taps(nn.Module):
    """The weights of a convolution of `width` values over `taps` tokens."""

    def __init__(self, width: int, taps: int, *, bias: bool = False) -> None:
        self.weight = nn.Parameter([width, 1, taps], "float32")
        self.bias = nn.Parameter([width], "float32") if bias else None


class ShortConvModule(nn.Module):
    """See ShortConv. It is number `layer` of the recurrent layers, and its input rows have `hidden_size`
    values.
    """

    def __init__(self, part: ShortConv, hidden_size: int, layer: int, layers: Layers) -> None:
        self.layer, self.make = layer, layers.recurrent()
        self.conv_in_proj = layers.linear(hidden_size, 3 * part.width, bias=part.bias)
        self.conv = Taps(part.width, part.taps, bias=part.bias)
        self.conv_out_proj = layers.linear(part.width, hidden_size, bias=part.bias)

    def forward(self, x: Any, state: State) -> nn.Tensor:
        """What a norm returned -> `(1, n, hidden_size)`."""
        return self.conv_out_proj(self._mixed(x, state))

    def add_to(self, residual: nn.Tensor, x: Any, state: State, scale: float) -> nn.Tensor:
        """Residual + scale * self(x)."""
        return self.conv_out_proj.add_to(residual, self._mixed(x, state), scale)

    def _mixed(self, x: Any, state: State) -> nn.Tensor:
        states = state.recurrent
        before = states.get(self.layer, 0)
        rows = self.conv_in_proj(x)
        mixed, last = self.make.causal_conv(rows, self.conv.weight, self.conv.bias, before, is_gated=True)
        states.set(self.layer, 0, last)
        return mixed

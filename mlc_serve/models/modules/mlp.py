"""The module of an MLP."""

from __future__ import annotations

from typing import Any

from tvm.relax.frontend import nn

from mlc_serve.models.layers import Layers, Linear
from mlc_serve.models.parts.mlp import MLP


class MLPModule(nn.Module):
    """See MLP. Its input rows have `hidden_size` values."""

    def __init__(self, part: MLP, hidden_size: int, layers: Layers) -> None:
        up = layers.linear(
            hidden_size, part.up_width, bias=part.bias, activation=part.activation, gated=part.is_gated
        )
        self.part = part
        setattr(self, part.up_name, up)
        self.down_proj = layers.linear(part.inner, hidden_size, bias=part.bias)

    def forward(self, x: Any) -> nn.Tensor:
        """What a norm returned -> `(1, s, hidden_size)`."""
        return self.down_proj(self._up.activated(x))

    def add_to(self, residual: nn.Tensor, x: Any, scale: float) -> nn.Tensor:
        """Residual + scale * self(x)."""
        return self.down_proj.add_to(residual, self._up.activated(x), scale)

    @property
    def _up(self) -> Linear:
        up: Linear = getattr(self, self.part.up_name)
        return up

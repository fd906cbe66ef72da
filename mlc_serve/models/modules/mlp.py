"""The module of an MLP."""

from __future__ import annotations

from typing import Any

from tvm.relax.frontend import nn

from mlc_serve.models.layers import Layers
from mlc_serve.models.parts.mlp import MLP


class GatedMLP(nn.Module):
    """An MLP whose gate and up products are one."""

    def __init__(self, part: MLP, hidden_size: int, layers: Layers) -> None:
        self.gate_up_proj = layers.linear(hidden_size, part.up_width, bias=part.bias, gated=True)
        self.down_proj = layers.linear(part.inner, hidden_size, bias=part.bias)

    def forward(self, x: Any) -> nn.Tensor:
        """What a norm returned -> `(1, s, hidden_size)`."""
        return self.down_proj(self.gate_up_proj.gated(x))

    def add_to(self, residual: nn.Tensor, x: Any) -> nn.Tensor:
        """Residual + self(x)."""
        return self.down_proj.add_to(residual, self.gate_up_proj.gated(x))

"""The module of a decoder's layer."""

from __future__ import annotations

from typing import Any

from tvm.relax.frontend import nn

from mlc_serve.models.layers import Layers
from mlc_serve.models.modules.attention import AttentionModule
from mlc_serve.models.modules.mlp import GatedMLP
from mlc_serve.models.parts.block import Block


class BlockModule(nn.Module):
    """See Block, which says how norms and residuals are arranged."""

    def __init__(self, part: Block, layer: int, layers: Layers) -> None:
        width, epsilon = part.norm.width, part.norm.epsilon
        self.part = part
        if part.has_input_norms:
            self.input_layernorm = layers.rms_norm(width, epsilon)
        self.self_attn = AttentionModule(part.attention, width, layer, layers)
        if part.has_mlp_norm:
            self.post_attention_layernorm = layers.rms_norm(width, epsilon)
        self.mlp = GatedMLP(part.mlp, width, layers)

    def forward(self, x: nn.Tensor, state: Any) -> nn.Tensor:
        """Rows `(1, s, width)` -> the same shape."""
        x = self.self_attn.add_to(x, self.input_layernorm(x), state)
        return self.mlp.add_to(x, self.post_attention_layernorm(x))

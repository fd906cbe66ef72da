"""The module of latent attention."""

from __future__ import annotations

from typing import Any

from tvm.relax.frontend import nn

from mlc_serve.models.layers import Layers, State
from mlc_serve.models.parts.latent_attention import LatentAttention


class LatentAttentionModule(nn.Module):
    """The latent attention of one layer, whose input rows have `hidden_size` values."""

    def __init__(self, part: LatentAttention, hidden_size: int, layer: int, layers: Layers) -> None:
        shape = part.shape
        self.part = part
        if part.q_lora_rank is None or part.q_norm is None:
            self.q_proj = layers.linear(hidden_size, part.q_width)
        else:
            self.q_a_proj = layers.linear(hidden_size, part.q_lora_rank, bias=part.bias)
            self.q_a_layernorm = layers.norm(part.q_norm)
            self.q_b_proj = layers.linear(part.q_lora_rank, part.q_width)
        self.kv_a_proj = layers.linear(hidden_size, shape.head_dim, bias=part.bias)
        self.latent = layers.latent_heads(part)
        self.attend = layers.attention(shape, layer)
        self.o_proj = layers.linear(part.value_width, hidden_size, bias=part.bias)

    def forward(self, x: Any, state: State) -> nn.Tensor:
        """What a norm returned -> `(1, s, hidden_size)`."""
        return self.o_proj(self._values(x, state))

    def add_to(self, residual: nn.Tensor, x: Any, state: State, scale: float) -> nn.Tensor:
        """Residual + scale * self(x)."""
        return self.o_proj.add_to(residual, self._values(x, state), scale)

    def _values(self, x: Any, state: State) -> nn.Tensor:
        queries_and_key = self.latent.queries_and_key(self._queries(x), self.kv_a_proj(x))
        return self.latent.values(self.attend(queries_and_key, state))

    def _queries(self, x: Any) -> nn.Tensor:
        if self.part.q_lora_rank is None:
            return self.q_proj(x)
        return self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x)))

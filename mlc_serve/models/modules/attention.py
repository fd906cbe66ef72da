"""The module of attention."""

from __future__ import annotations

from typing import Any

from tvm.relax.frontend import nn

from mlc_serve.models.layers import Layers, State
from mlc_serve.models.parts.attention import Attention


class AttentionModule(nn.Module):
    """The attention of one layer, whose results have `hidden_size` values, and so have its input rows, unless
    `input_width` is given.
    """

    def __init__(
        self, part: Attention, hidden_size: int, layer: int, layers: Layers, input_width: int | None = None
    ) -> None:
        shape, norm, depth = part.shape, part.head_norm, input_width or hidden_size
        self.shape, self.make = shape, layers
        self.qkv_proj = layers.linear(
            depth,
            shape.qkv_width,
            bias=part.qkv_bias,
            dtype=layers.attention_dtype if norm is None else layers.dtype,
        )
        self.is_gated = part.is_gated
        if part.is_gated:
            self.gate_proj = layers.linear(depth, shape.q_width, bias=part.qkv_bias)
        self.is_normalized = norm is not None
        if norm is not None:
            self.q_norm = layers.head_norm(norm, shape.num_q_heads, shape.head_dim)
            self.k_norm = layers.head_norm(norm, shape.num_kv_heads, shape.head_dim)
        self.attend = layers.attention(shape, layer)
        self.o_proj = layers.linear(shape.out_width, hidden_size, bias=part.o_bias)

    def forward(self, x: Any, state: State) -> nn.Tensor:
        """What a norm returned -> `(1, s, hidden_size)`."""
        return self.o_proj(self._attended(x, state))

    def add_to(self, residual: nn.Tensor, x: Any, state: State, scale: float) -> nn.Tensor:
        """Residual + scale * self(x)."""
        return self.o_proj.add_to(residual, self._attended(x, state), scale)

    def _attended(self, x: Any, state: State) -> nn.Tensor:
        shape, qkv = self.shape, self.qkv_proj(x)
        qkv = qkv.reshape(1, qkv.shape[1], shape.num_heads, shape.head_dim)
        if self.is_normalized:
            qkv = self.make.normalize_heads(qkv, self.q_norm, self.k_norm, shape)
        attended: nn.Tensor = self.attend(qkv, state)
        return self.make.recurrent().gated(attended, self.gate_proj(x)) if self.is_gated else attended

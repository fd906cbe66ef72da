"""The module of a decoder's layer."""

from __future__ import annotations

from typing import Any

from tvm.relax.frontend import nn

from mlc_serve.models.layers import Layers, State
from mlc_serve.models.modules.attention import AttentionModule
from mlc_serve.models.modules.gated_delta import GatedDeltaModule
from mlc_serve.models.modules.latent_attention import LatentAttentionModule
from mlc_serve.models.modules.mlp import MLPModule
from mlc_serve.models.modules.short_conv import ShortConvModule
from mlc_serve.models.parts.attention import Attention
from mlc_serve.models.parts.block import Block
from mlc_serve.models.parts.experts import Experts
from mlc_serve.models.parts.gated_delta import GatedDelta
from mlc_serve.models.parts.latent_attention import LatentAttention
from mlc_serve.models.parts.short_conv import ShortConv


class BlockModule(nn.Module):
    """See Block, which says how norms and residuals are arranged. `place` is its number among the layers that
    have a state of the same kind.
    """

    def __init__(self, part: Block, place: int, layers: Layers) -> None:
        hidden_size = part.norm.width
        self.part = part
        if part.has_input_norms:
            self.input_layernorm = layers.norm(part.norm)
        self.self_attn = _mixer(part.attention, hidden_size, place, layers)
        if part.has_output_norms:
            self.attention_output_norm = layers.norm(part.norm)
        if part.has_mlp_norm:
            self.post_attention_layernorm = layers.norm(part.norm)
        self.mlp: Any = (
            layers.experts(part.mlp, hidden_size)
            if isinstance(part.mlp, Experts)
            else MLPModule(part.mlp, hidden_size, layers)
        )
        if part.has_output_norms:
            self.mlp_output_norm = layers.norm(part.norm)

    def forward(self, x: nn.Tensor, state: State) -> nn.Tensor:
        """Rows `(1, s, width)` -> the same shape."""
        attended = self._add_attention(x, state)
        return self._add_mlp(attended, x if self.part.is_parallel else attended)

    def _add_attention(self, x: nn.Tensor, state: State) -> nn.Tensor:
        rows = self.input_layernorm(x) if self.part.has_input_norms else x
        if self.part.has_output_norms:
            return self.attention_output_norm.add_to(x, self.self_attn(rows, state))
        return self.self_attn.add_to(x, rows, state, self.part.residual_scale)

    def _add_mlp(self, residual: nn.Tensor, x: nn.Tensor) -> nn.Tensor:
        """Residual plus the MLP's result for `x`."""
        rows = self._mlp_rows(x)
        if isinstance(self.part.mlp, Experts):
            return self.mlp.add_to(residual, rows)
        if self.part.has_output_norms:
            return self.mlp_output_norm.add_to(residual, self.mlp(rows))
        return self.mlp.add_to(residual, rows, self.part.residual_scale)

    def _mlp_rows(self, x: nn.Tensor) -> Any:
        if self.part.has_mlp_norm:
            return self.post_attention_layernorm(x)
        return self.input_layernorm(x) if self.part.has_input_norms else x


def _mixer(
    part: Attention | LatentAttention | GatedDelta | ShortConv, hidden_size: int, place: int, layers: Layers
) -> AttentionModule | LatentAttentionModule | GatedDeltaModule | ShortConvModule:
    match part:
        case Attention():
            return AttentionModule(part, hidden_size, place, layers)
        case LatentAttention():
            return LatentAttentionModule(part, hidden_size, place, layers)
        case GatedDelta():
            return GatedDeltaModule(part, hidden_size, place, layers)
        case ShortConv():
            return ShortConvModule(part, hidden_size, place, layers)

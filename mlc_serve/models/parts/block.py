"""A layer of a decoder: attention and an MLP, and how norms and residuals are arranged around them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from mlc_serve.models.parts.attention import Attention
from mlc_serve.models.parts.experts import Experts
from mlc_serve.models.parts.gated_delta import GatedDelta
from mlc_serve.models.parts.latent_attention import LatentAttention
from mlc_serve.models.parts.mlp import MLP
from mlc_serve.models.parts.named_shapes import NamedShape
from mlc_serve.models.parts.norm import Norm
from mlc_serve.models.parts.short_conv import ShortConv

# With x the input, N a norm, A attention and M the MLP:
#   sequential      y = x + A(N(x)),         y + M(N(y))
#   sandwich        y = x + N(A(N(x))),      y + N(M(N(y)))
#   post            y = x + N(A(x)),         y + N(M(y))
#   parallel        x + A(N(x)) + M(N(x)), with one norm
#   parallel_norms  x + A(N(x)) + M(N(x)), with a norm for each
Arrangement = Literal["sequential", "sandwich", "post", "parallel", "parallel_norms"]


@dataclass(frozen=True)
class Block:
    """A layer, which attends or has something else in the place of attention. What this and an MLP add to a
    residual is first multiplied by `residual_scale`. Experts have neither such a factor nor an output norm.
    """

    attention: Attention | LatentAttention | GatedDelta | ShortConv
    mlp: MLP | Experts
    norm: Norm
    arrangement: Arrangement = "sequential"
    residual_scale: float = 1.0

    @property
    def is_parallel(self) -> bool:
        """Whether attention and MLP have the same input."""
        return self.arrangement in ("parallel", "parallel_norms")

    @property
    def has_input_norms(self) -> bool:
        """Whether attention and MLP take normalised rows."""
        return self.arrangement != "post"

    @property
    def has_mlp_norm(self) -> bool:
        """Whether the MLP has an input norm of its own."""
        return self.arrangement not in ("post", "parallel")

    @property
    def has_output_norms(self) -> bool:
        """Whether the results of attention and MLP are normalised."""
        return self.arrangement in ("sandwich", "post")

    @property
    def workspace_width(self) -> int:
        """Residuals, and what attention and the MLP need."""
        width = self.norm.width
        return 3 * width + self.attention.workspace_width + self.mlp.workspace_width(width)

    def weights(self, name: str) -> Iterator[NamedShape]:
        """The names and shapes of the weights, in the order of the module's parameters."""
        hidden_size = self.norm.width
        if self.has_input_norms:
            yield from self.norm.weights(f"{name}.input_layernorm")
        yield from self.attention.weights(f"{name}.self_attn", hidden_size)
        if self.has_output_norms:
            yield from self.norm.weights(f"{name}.attention_output_norm")
        if self.has_mlp_norm:
            yield from self.norm.weights(f"{name}.post_attention_layernorm")
        yield from self.mlp.weights(f"{name}.mlp", hidden_size)
        if self.has_output_norms:
            yield from self.norm.weights(f"{name}.mlp_output_norm")

"""Latent attention (DeepSeek, 2024), which keeps one latent for each token instead of the keys and values of
all heads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mlc_serve.models.parts.attention import AttentionLayer, AttentionShape
from mlc_serve.models.parts.named_shapes import NamedShape, product_weights
from mlc_serve.models.parts.norm import Norm

_EPSILON = 1e-6  # of the norms of queries and latents, whatever that of the other norms is


@dataclass(frozen=True)
class LatentAttention:
    """The attention of a layer.

    A token's key is the same for all heads: `qk_rope_head_dim` values that turn by the position, and then a
    normalised latent of `kv_lora_rank` values, which is also its value. A head's query has as many values
    that turn, and `qk_nope_head_dim` others, which the head's own weight turns into a query of the latent.
    Another weight turns what the head finds into its `v_head_dim` values. With a `q_lora_rank`, queries are
    made of so many values, which are normalised. `bias` is that of the products with the hidden state, but
    for the one that gives queries, and of the last one.
    """

    num_heads: int
    q_lora_rank: int | None
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    layers: tuple[AttentionLayer, ...]
    scale: float
    bias: bool = False

    @property
    def shape(self) -> AttentionShape:
        """What the cache and its kernels see: one key for all heads, whose end is the value."""
        dim = self.qk_rope_head_dim + self.kv_lora_rank
        return AttentionShape(self.num_heads, 1, dim, self.layers, self.scale, latent=self.kv_lora_rank)

    @property
    def q_head_dim(self) -> int:
        """How many values a head's query has."""
        return self.qk_rope_head_dim + self.qk_nope_head_dim

    @property
    def q_width(self) -> int:
        """Columns of the product that gives queries."""
        return self.num_heads * self.q_head_dim

    @property
    def value_width(self) -> int:
        """Columns of all heads' values."""
        return self.num_heads * self.v_head_dim

    @property
    def q_norm(self) -> Norm | None:
        """The norm of what queries are made of."""
        return None if self.q_lora_rank is None else Norm("rms", self.q_lora_rank, _EPSILON)

    @property
    def latent_norm(self) -> Norm:
        """The norm of latents."""
        return Norm("rms", self.kv_lora_rank, _EPSILON)

    @property
    def workspace_width(self) -> int:
        """Queries and keys when they were computed, multiplied and turned, and the results."""
        shape = self.shape
        computed = self.q_width + (self.q_lora_rank or 0) + shape.head_dim
        return computed + 2 * shape.qkv_width + shape.out_width + self.value_width

    def weights(self, name: str, hidden_size: int) -> Iterator[NamedShape]:
        """The names and shapes of the weights, for tokens of `hidden_size` values."""
        yield from self._query_weights(name, hidden_size)
        yield from product_weights(f"{name}.kv_a_proj", self.shape.head_dim, hidden_size, bias=self.bias)
        yield from self.latent_norm.weights(f"{name}.latent.norm")
        keys, values = self.num_heads * self.kv_lora_rank, self.value_width
        yield f"{name}.latent.k_up_proj.weight", (keys, self.qk_nope_head_dim)
        yield f"{name}.latent.v_up_proj.weight", (values, self.kv_lora_rank)
        yield from product_weights(f"{name}.o_proj", hidden_size, values, bias=self.bias)

    def _query_weights(self, name: str, hidden_size: int) -> Iterator[NamedShape]:
        if self.q_lora_rank is None or self.q_norm is None:
            yield f"{name}.q_proj.weight", (self.q_width, hidden_size)
            return
        yield from product_weights(f"{name}.q_a_proj", self.q_lora_rank, hidden_size, bias=self.bias)
        yield from self.q_norm.weights(f"{name}.q_a_layernorm")
        yield f"{name}.q_b_proj.weight", (self.q_width, self.q_lora_rank)

"""What attention a model has: its heads, and for each layer its positions and what it attends to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mlc_serve.models.parts.head_norm import HeadNorm
from mlc_serve.models.parts.named_shapes import NamedShape, product_weights
from mlc_serve.models.rope import Rope


@dataclass(frozen=True)
class AttentionLayer:
    """How one layer attends.

    Queries and keys are rotated by `rope`; None leaves them as they are. With a `window`, a token sees that
    many tokens, itself included; without one, it sees all tokens before it. The first `anchors` tokens of a
    sequence are seen by all. Seen from where the window has left them, they are turned as if the window came
    right after them.
    """

    rope: Rope | None
    window: int | None = None
    anchors: int = 0


@dataclass(frozen=True)
class AttentionShape:
    """The dimensions that the KV cache and its kernels are made for.

    Scores are multiplied by `scale`. With a `soft_cap`, a score x becomes cap * tanh(x / cap). With
    `has_sinks`, each query head of a layer has a learned score that takes part in the softmax and has no
    value. With `latent`, values are not stored: that of a token is the last `latent` values of its key.
    """

    num_q_heads: int
    num_kv_heads: int
    head_dim: int
    layers: tuple[AttentionLayer, ...]
    scale: float
    soft_cap: float | None = None
    has_sinks: bool = False
    latent: int | None = None

    @property
    def num_layers(self) -> int:
        """The number of layers that attend."""
        return len(self.layers)

    @property
    def value_dim(self) -> int:
        """How many values a value has."""
        return self.head_dim if self.latent is None else self.latent

    @property
    def num_stored(self) -> int:
        """How many heads of keys and values a token has in the cache, all of `head_dim` values."""
        return self.num_kv_heads if self.latent is not None else 2 * self.num_kv_heads

    @property
    def q_width(self) -> int:
        """Columns of all queries."""
        return self.num_q_heads * self.head_dim

    @property
    def out_width(self) -> int:
        """Columns of attention's result."""
        return self.num_q_heads * self.value_dim

    @property
    def num_heads(self) -> int:
        """Heads of queries, keys and values together."""
        return self.num_q_heads + self.num_stored

    @property
    def qkv_width(self) -> int:
        """Columns of the product that gives queries, keys and values at once."""
        return self.num_heads * self.head_dim


@dataclass(frozen=True)
class Attention:
    """The attention of a layer: the product that gives queries, keys and values, the norms of queries and
    keys if there are any, and the product with the result. If attention `is_gated`, its result is first
    multiplied by the sigmoid of another product.
    """

    shape: AttentionShape
    qkv_bias: bool = False
    o_bias: bool = False
    head_norm: HeadNorm | None = None
    is_gated: bool = False

    @property
    def workspace_width(self) -> int:
        """Queries, keys and values when they were computed, normalised and rotated."""
        return (2 if self.head_norm is None else 3) * self.shape.qkv_width

    def weights(self, name: str, hidden_size: int, input_width: int | None = None) -> Iterator[NamedShape]:
        """The names and shapes of the weights, for tokens of `hidden_size` values, of which attention takes
        `input_width`, or as many.
        """
        shape, depth = self.shape, input_width or hidden_size
        yield from product_weights(f"{name}.qkv_proj", shape.qkv_width, depth, bias=self.qkv_bias)
        if self.is_gated:
            yield from product_weights(f"{name}.gate_proj", shape.q_width, depth, bias=self.qkv_bias)
        if self.head_norm is not None:
            yield from self.head_norm.weights(f"{name}.q_norm", shape.num_q_heads, shape.head_dim)
            yield from self.head_norm.weights(f"{name}.k_norm", shape.num_kv_heads, shape.head_dim)
        if shape.has_sinks:
            yield f"{name}.attend.sinks", (shape.num_q_heads,)
        yield from product_weights(f"{name}.o_proj", hidden_size, shape.out_width, bias=self.o_bias)

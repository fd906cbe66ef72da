"""What attention a model has: its heads, and for each layer its positions and what it attends to."""

from __future__ import annotations

from dataclasses import dataclass

from mlc_serve.models.rope import Rope


@dataclass(frozen=True)
class AttentionLayer:
    """How one layer attends.

    Queries and keys are rotated by `rope`; None leaves them as they are. With a `window`, a token sees that
    many tokens, itself included; without one, it sees all tokens before it.
    """

    rope: Rope | None
    window: int | None = None


@dataclass(frozen=True)
class AttentionShape:
    """The dimensions that the KV cache and its kernels are made for.

    Scores are multiplied by `scale`. With a `soft_cap`, a score x becomes cap * tanh(x / cap). With
    `has_sinks`, each query head of a layer has a learned score that takes part in the softmax and has no
    value.
    """

    num_q_heads: int
    num_kv_heads: int
    head_dim: int
    layers: tuple[AttentionLayer, ...]
    scale: float
    soft_cap: float | None = None
    has_sinks: bool = False

    @property
    def num_layers(self) -> int:
        """The number of layers that attend."""
        return len(self.layers)

    @property
    def q_width(self) -> int:
        """Columns of all queries, which are as many as those of attention's result."""
        return self.num_q_heads * self.head_dim

    @property
    def num_heads(self) -> int:
        """Heads of queries, keys and values together."""
        return self.num_q_heads + 2 * self.num_kv_heads

    @property
    def qkv_width(self) -> int:
        """Columns of the product that gives queries, keys and values at once."""
        return self.num_heads * self.head_dim

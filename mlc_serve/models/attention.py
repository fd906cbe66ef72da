"""What attention a model has: its heads, its positions, and what each layer attends to."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from mlc_serve.models.rope import Rope


class AttentionKind(Enum):
    """What a layer attends to. The value is its name in messages."""

    FULL = "full attention"
    WINDOW = "sliding-window attention"
    SINKS = "attention sinks"
    RECURRENT = "a recurrent state"


@dataclass(frozen=True)
class AttentionShape:
    """The dimensions that the KV cache and its kernels are made for."""

    num_layers: int
    num_q_heads: int
    num_kv_heads: int
    head_dim: int
    rope: Rope

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

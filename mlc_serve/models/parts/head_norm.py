"""The normalization of queries and keys."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from mlc_serve.models.parts.named_shapes import NamedShape


@dataclass(frozen=True)
class HeadNorm:
    """Normalises each head of the queries and of the keys before they are rotated.

    With the scope "head", all heads have one weight; with "each_head", each has its own; with "all_heads",
    all heads of the queries, and all of the keys, are normalised as one row. `kind` is that of a Norm.
    """

    kind: Literal["rms", "layer"]
    epsilon: float
    scope: Literal["head", "each_head", "all_heads"] = "head"
    bias: bool = False

    def shape(self, num_heads: int, head_dim: int) -> tuple[int, ...]:
        """The shape of the weight for queries or for keys."""
        match self.scope:
            case "head":
                return (head_dim,)
            case "each_head":
                return (num_heads, head_dim)
        return (num_heads * head_dim,)

    def weights(self, name: str, num_heads: int, head_dim: int) -> Iterator[NamedShape]:
        """The weights of the norm of queries or of keys."""
        yield f"{name}.weight", self.shape(num_heads, head_dim)
        if self.bias:
            yield f"{name}.bias", self.shape(num_heads, head_dim)

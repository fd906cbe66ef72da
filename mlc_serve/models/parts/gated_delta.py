"""The gated delta rule, a recurrence that layers of Qwen 3.5 have in the place of attention."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from mlc_serve.models.parts.named_shapes import NamedShape, product_weights


class DeltaHeads(NamedTuple):
    """The heads of a gated delta rule. A head of queries and keys, of `key_dim` values each, serves several
    heads of values in succession.
    """

    num_k_heads: int
    num_v_heads: int
    key_dim: int
    value_dim: int

    @property
    def v_width(self) -> int:
        """Columns of all values."""
        return self.num_v_heads * self.value_dim

    @property
    def qkv_width(self) -> int:
        """Columns of all queries, keys and values."""
        return 2 * self.num_k_heads * self.key_dim + self.v_width


@dataclass(frozen=True)
class GatedDelta:
    """A product that gives queries, keys, values and gates; a convolution of all but the gates over `taps`
    tokens; the gated delta rule; an RMS norm of each head of its result, with this `epsilon`, times
    SiLU(gate); and a product with the result.
    """

    heads: DeltaHeads
    taps: int
    epsilon: float

    @property
    def states(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of a sequence's states: that of the convolution, and the heads' matrices."""
        heads = self.heads
        return (
            (self.taps - 1, heads.qkv_width),
            (heads.num_v_heads, heads.key_dim, heads.value_dim),
        )

    @property
    def workspace_width(self) -> int:
        """The results of the products, of the convolution, of the rule and of the norm."""
        return 2 * self.heads.qkv_width + 3 * self.heads.v_width + 2 * self.heads.num_v_heads

    def weights(self, name: str, hidden_size: int) -> Iterator[NamedShape]:
        """The names and shapes of the weights, for tokens of `hidden_size` values."""
        heads = self.heads
        width = heads.qkv_width + heads.v_width
        yield from product_weights(f"{name}.in_proj_qkvz", width, hidden_size, bias=False)
        yield from product_weights(f"{name}.in_proj_ba", 2 * heads.num_v_heads, hidden_size, bias=False)
        yield f"{name}.conv1d.weight", (heads.qkv_width, 1, self.taps)
        yield f"{name}.A_log", (heads.num_v_heads,)
        yield f"{name}.dt_bias", (heads.num_v_heads,)
        yield f"{name}.delta_norm.weight", (heads.value_dim,)
        yield from product_weights(f"{name}.delta_out_proj", hidden_size, heads.v_width, bias=False)

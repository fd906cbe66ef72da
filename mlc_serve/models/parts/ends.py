"""The two ends of a decoder: from token ids to rows of activations, and from these to logits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Embedding:
    """The rows of a table of tokens, multiplied by `scale`. With `num_positions`, the row of a token's
    position in a second table is added, which the model has learned for so many positions.
    """

    scale: float = 1.0
    num_positions: int | None = None


@dataclass(frozen=True)
class Head:
    """A product with a table of its own, or with the embeddings if `is_tied`. The logits are multiplied by
    `scale`; then, with a `soft_cap`, a logit x becomes cap * tanh(x / cap).
    """

    is_tied: bool = False
    bias: bool = False
    scale: float = 1.0
    soft_cap: float | None = None

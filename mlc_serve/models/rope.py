"""Rotary positions (Su et al., 2021): how far a token's queries and keys are rotated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlc_serve.models.rope_scaling import Frequencies, Scaling


@dataclass(frozen=True)
class QueryScaling:
    """Queries are multiplied by 1 + beta * ln(1 + position // window), so that attention stays sharp beyond
    the first `window` positions (Llama 4, 2025).
    """

    beta: float
    window: int


@dataclass(frozen=True)
class Rope:
    """Rotary embedding with the base `theta`.

    Only the first `rotary_dim` dimensions of a head are rotated, an even number; None means all. Dimension i
    of them forms a pair with i + rotary_dim / 2.
    """

    theta: float
    scaling: Scaling | None = None
    rotary_dim: int | None = None
    query_scaling: QueryScaling | None = None

    def dimensions(self, head_dim: int) -> int:
        """How many dimensions of a head are rotated."""
        return head_dim if self.rotary_dim is None else self.rotary_dim

    def frequencies(self, head_dim: int) -> Frequencies:
        """How many radians each pair of dimensions turns from one position to the next: `(pairs,)`."""
        frequencies = self.unscaled(head_dim)
        return frequencies if self.scaling is None else self.scaling.scaled(frequencies, self.theta)

    def unscaled(self, head_dim: int) -> Frequencies:
        """The same without scaling."""
        dimensions = self.dimensions(head_dim)
        return np.float64(self.theta) ** -(np.arange(0, dimensions, 2) / dimensions)

    @property
    def attention_factor(self) -> float:
        """The factor that the rotated dimensions of queries and of keys are each multiplied by."""
        return 1.0 if self.scaling is None else self.scaling.attention_factor

    def context_window(self, stated: int) -> int:
        """How many positions can be served, if the configuration states `stated`."""
        return stated if self.scaling is None else self.scaling.context_window(stated)

"""The normalization of whole rows of activations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Norm:
    """Scales rows of `width` values by a weight after it has divided them by their root mean square ("rms"),
    or has subtracted their mean and divided them by their standard deviation ("layer"). `epsilon` is added to
    the square before its root is taken. With `bias` a bias is added at the end.
    """

    kind: Literal["rms", "layer"]
    width: int
    epsilon: float
    bias: bool = False

    def weights(self, name: str) -> Iterator[tuple[str, tuple[int, ...]]]:
        """The names and shapes of the weights of the norm `name`."""
        yield f"{name}.weight", (self.width,)
        if self.bias:
            yield f"{name}.bias", (self.width,)

"""The gated short convolution that layers of LFM2 have in the place of attention."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mlc_serve.models.parts.named_shapes import NamedShape, product_weights


@dataclass(frozen=True)
class ShortConv:
    """A product that gives three rows of `width` values for each token, a convolution over `taps` tokens, and
    a product with the result.
    """

    width: int
    taps: int
    bias: bool = False

    @property
    def states(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of a sequence's states: one row for each tap but the last."""
        return ((self.taps - 1, self.width),)

    @property
    def workspace_width(self) -> int:
        """The result of the first product, and that of the convolution."""
        return 4 * self.width

    def weights(self, name: str, hidden_size: int) -> Iterator[NamedShape]:
        """The names and shapes of the weights, for tokens of `hidden_size` values."""
        yield from product_weights(f"{name}.conv_in_proj", 3 * self.width, hidden_size, bias=self.bias)
        yield f"{name}.conv.weight", (self.width, 1, self.taps)
        if self.bias:
            yield f"{name}.conv.bias", (self.width,)
        yield from product_weights(f"{name}.conv_out_proj", hidden_size, self.width, bias=self.bias)

"""The layers that an encoder is built from. The compiler supplies them, made for a quantization scheme.

Activations are float32 of the shape `(1, s, width)`: the tokens of all sequences of a batch, one after
another.
"""

from __future__ import annotations

from typing import Protocol

from tvm.relax.frontend import nn

from mlc_serve.models.parts.norm import Norm


class EncoderLayers(Protocol):
    """Makes the layers of an encoder."""

    def linear(self, in_features: int, out_features: int) -> nn.Module:
        """A product with a weight, plus a bias: `(1, s, in)` -> `(1, s, out)`."""

    def embedding(self, num_rows: int, width: int) -> nn.Module:
        """A table: ids `(s,)` -> `(s, width)`."""

    def table(self, num_rows: int, width: int) -> nn.Module:
        """A table for `place`: a module with the parameter `weight`."""

    def place(self, positions: nn.Tensor, table: nn.Module, types: nn.Module) -> nn.Tensor:
        """The embedding of each position `(s,)` plus that of token type 0, which single texts have
        -> `(s, width)`.
        """

    def norm(self, spec: Norm) -> nn.Module:
        """A norm whose method `of_sum` takes two tensors `(1, s, width)` and normalises their sum."""

    def gelu(self, x: nn.Tensor) -> nn.Tensor:
        """GELU of every value, by the error function."""

    def attention(
        self, q: nn.Tensor, k: nn.Tensor, v: nn.Tensor, first_rows: nn.Tensor, num_heads: int
    ) -> nn.Tensor:
        """Each token over all tokens of its sequence. Sequence b has the rows from first_rows[b] to before
        first_rows[b + 1].
        """

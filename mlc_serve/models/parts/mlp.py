"""The MLP of a layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mlc_serve.models.parts.activation import Activation
from mlc_serve.models.parts.named_shapes import NamedShape, product_weights


@dataclass(frozen=True)
class MLP:
    """down(activation(up(x))), or with `is_gated` down(activation(gate(x)) * up(x)). `inner` is the number of
    values between the products.
    """

    inner: int
    activation: Activation = "silu"
    is_gated: bool = True
    bias: bool = False

    @property
    def up_name(self) -> str:
        """What the first product is called; gate and up are one."""
        return "gate_up_proj" if self.is_gated else "up_proj"

    @property
    def up_width(self) -> int:
        """Columns of the first product."""
        return 2 * self.inner if self.is_gated else self.inner

    def workspace_width(self, hidden_size: int) -> int:  # noqa: ARG002  experts need it
        """At most so many values of a token are kept at a time: gate, up and their product."""
        return 3 * self.inner

    def weights(self, name: str, hidden_size: int) -> Iterator[NamedShape]:
        """The names and shapes of the weights, for tokens of `hidden_size` values."""
        yield from product_weights(f"{name}.{self.up_name}", self.up_width, hidden_size, bias=self.bias)
        yield from product_weights(f"{name}.down_proj", hidden_size, self.inner, bias=self.bias)

"""The module of MedusaHeads, which TVM compiles. Its parts have the names that MLC gives them."""

from __future__ import annotations

from collections.abc import Callable

from tvm.relax.frontend import nn

from mlc_serve.models.layers import Layers
from mlc_serve.models.medusa import MedusaHeads
from mlc_serve.models.modules.cast import cast


class _Block(nn.Module):
    def __init__(self, hidden_size: int, layers: Layers) -> None:
        self.linear = layers.linear(hidden_size, hidden_size, bias=True, activation="silu")

    def forward(self, x: nn.Tensor) -> nn.Tensor:
        return x + self.linear.activated(x)


class MedusaModule(nn.Module):
    """The functions of compiled heads: `head_0` guesses the token after the next one, `head_1` the one after
    that, and so on.

    In shapes, n is the number of states, h the hidden size, and v the vocabulary's size.
    """

    def __init__(self, config: MedusaHeads, layers: Layers) -> None:
        self.config, self.make = config, layers
        self.medusa_head = nn.ModuleList([self._head() for _ in range(config.num_heads)])

    def _head(self) -> nn.ModuleList:
        width, make = self.config.hidden_size, self.make
        blocks = [_Block(width, make) for _ in range(self.config.num_blocks)]
        return nn.ModuleList([*blocks, make.linear(width, self.config.vocab_size)])

    def function(self, number: int) -> Callable[[nn.Tensor], nn.Tensor]:
        """The function of one head."""

        def logits(states: nn.Tensor) -> nn.Tensor:
            """`(1, n, h)` -> `(1, n, v)`, both float32."""
            return cast(self.medusa_head[number](cast(states, self.make.dtype)), "float32")

        return logits

    def spec(self) -> nn.spec.ModuleSpec:
        """The signatures to export."""
        numbers = range(self.config.num_heads)
        states = nn.spec.Tensor([1, "batch_size", self.config.hidden_size], "float32")
        functions = [
            nn.spec.MethodSpec(self.function(number), ["states"], [states], "packed", "none")
            for number in numbers
        ]
        return nn.spec.ModuleSpec(self, [f"head_{number}" for number in numbers], functions)

"""Linear layers on the CPU, however their weights are stored."""

from __future__ import annotations

from collections.abc import Callable

from tvm.relax.frontend import nn

from mlc_serve.compiler.kernels.cpu.linear.silu import silu_multiply
from mlc_serve.quantization.packing import LANES


class Linear:
    """Implements the methods of a linear layer with `product(x, epilogue, extra)`, which multiplies
    activations with the layer's weight.

    `alternates` says that tiles of gate and up alternate in the weight, so that the product can apply SiLU
    itself. With a bias they do not, because it must be added before.
    """

    product: Callable[..., nn.Tensor]
    bias: nn.Parameter | None
    alternates: bool

    def forward(self, x: nn.Tensor) -> nn.Tensor:
        return self.product(x, "none") if self.bias is None else self.product(x, "bias", self.bias)

    def add_to(self, residual: nn.Tensor, x: nn.Tensor) -> nn.Tensor:
        if self.bias is not None:
            return residual + self.forward(x)
        return self.product(x, "residual", residual)

    def gated(self, x: nn.Tensor) -> nn.Tensor:
        return self.product(x, "gated") if self.alternates else _silu_gate(self.forward(x))


def can_alternate(out_features: int) -> bool:
    """Whether tiles of gate and up can alternate: both must be whole tiles."""
    return out_features % (2 * LANES) == 0


def optional_bias(out_features: int, exists: bool) -> nn.Parameter | None:
    """A float32 bias, or none."""
    return nn.Parameter([out_features], "float32") if exists else None


def _silu_gate(gate_up: nn.Tensor) -> nn.Tensor:
    """`(1, s, 2 n)`, gate before up -> SiLU(gate) * up, `(1, s, n)`."""
    width = int(gate_up.shape[2]) // 2
    out = nn.Tensor.placeholder([1, gate_up.shape[1], width], "float32")
    return nn.op.tensor_ir_op(silu_multiply(width), "silu_multiply", [gate_up], out)

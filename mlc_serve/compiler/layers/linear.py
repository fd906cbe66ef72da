"""Linear layers on the CPU, however their weights are stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from tvm import tirx
from tvm.relax.frontend import nn

from mlc_serve.compiler.kernels.cpu.linear.activation import activate_rows
from mlc_serve.compiler.kernels.cpu.linear.epilogue import Epilogue
from mlc_serve.models.parts.activation import Activation
from mlc_serve.quantization.packing import LANES

# A model has many layers of few shapes: each kernel is parsed once.
_activate: Callable[..., tirx.PrimFunc] = lru_cache(maxsize=None)(activate_rows)


@dataclass(frozen=True)
class LinearForm:
    """What a linear layer does besides its product. If `fused`, the product applies the activation itself."""

    in_features: int
    out_features: int
    bias: bool = False
    activation: Activation | None = None
    gated: bool = False
    fused: bool = False
    dtype: str = "float32"  # of the result

    @property
    def applies_activation(self) -> bool:
        """Whether the product applies the activation. For that, gate and up must be whole tiles."""
        return self.fused and not (self.gated and self.out_features % (2 * LANES))

    @property
    def alternates(self) -> bool:
        """Whether tiles of gate and up alternate in the weight."""
        return self.gated and self.applies_activation


class Linear:
    """Implements models.layers.Linear with `product(x, epilogue, bias, residual)`, which multiplies
    activations with the layer's weight.
    """

    product: Callable[..., nn.Tensor]
    form: LinearForm
    bias: nn.Parameter | None

    def forward(self, x: nn.Tensor) -> nn.Tensor:
        if self.form.alternates:  # and so would gate and up in the product
            raise ValueError("the product of this gated layer can't be had without its activation")
        return self.product(x, Epilogue(bias=self.form.bias), self.bias)

    def add_to(self, residual: nn.Tensor, x: nn.Tensor, scale: float = 1.0) -> nn.Tensor:
        epilogue = Epilogue(bias=self.form.bias, scale=scale, residual=True)
        return self.product(x, epilogue, self.bias, residual)

    def activated(self, x: nn.Tensor) -> nn.Tensor:
        form = self.form
        if form.activation is None:
            raise ValueError("the layer was made without an activation")
        if not form.applies_activation:
            return activate(self.forward(x), form.activation, gated=form.gated)
        return self.product(x, Epilogue(form.bias, form.activation, form.gated), self.bias)


def optional_bias(form: LinearForm) -> nn.Parameter | None:
    """A float32 bias, or none."""
    return nn.Parameter([form.out_features], "float32") if form.bias else None


def activate(x: nn.Tensor, activation: Activation, *, gated: bool) -> nn.Tensor:
    """`(1, s, n)` -> activation(x). Gated, `(1, s, 2 n)`, gate before up -> activation(gate) * up."""
    width = int(x.shape[2]) // 2 if gated else int(x.shape[2])
    out = nn.Tensor.placeholder([1, x.shape[1], width], "float32")
    name = f"{activation}_multiply" if gated else activation
    return nn.op.tensor_ir_op(_activate(width, activation, gated=gated), name, [x], out)

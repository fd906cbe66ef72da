"""Norms of whole rows on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from tvm import tirx
from tvm.relax.frontend import nn

from mlc_serve.compiler.kernels.cpu.linear.norm import norm
from mlc_serve.models.parts.norm import Norm

# A model has many layers of few shapes: each kernel is parsed once.
_norm: Callable[..., tirx.PrimFunc] = lru_cache(maxsize=None)(norm)


class RowNorm(nn.Module):
    """Implements models.layers.RowNorm with a float32 weight, and a bias if its spec has one. If it is lazy,
    the linear layer that takes its result computes it.
    """

    def __init__(self, spec: Norm, *, lazy: bool = False) -> None:
        self.spec, self.lazy = spec, lazy
        self.weight = nn.Parameter([spec.width], "float32")
        self.bias = nn.Parameter([spec.width], "float32") if spec.bias else None

    def forward(self, x: nn.Tensor) -> nn.Tensor | Normalized:
        return Normalized(x, self) if self.lazy else self.rows(x)

    def rows(self, x: nn.Tensor) -> nn.Tensor:
        return self._run(_norm(self.spec), f"{self.spec.kind}_norm", x, x)

    def add_to(self, residual: nn.Tensor, x: nn.Tensor) -> nn.Tensor:
        return self._run(_norm(self.spec, "result"), f"add_{self.spec.kind}_norm", x, residual)

    def of_sum(self, x: nn.Tensor, residual: nn.Tensor) -> nn.Tensor:
        """The norm of x + residual."""
        return self._run(_norm(self.spec, "input"), f"{self.spec.kind}_norm_of_sum", x, residual)

    def _run(self, kernel: tirx.PrimFunc, name: str, x: nn.Tensor, residual: nn.Tensor) -> nn.Tensor:
        operands = [x, residual, self.weight, self.weight if self.bias is None else self.bias]
        return nn.op.tensor_ir_op(kernel, name, operands, nn.Tensor.placeholder(x.shape, "float32"))


@dataclass(frozen=True)
class Normalized:
    """Rows `(1, s, K)` that their reader has to normalise."""

    rows: nn.Tensor
    norm: RowNorm


def plain_rows(x: nn.Tensor | Normalized) -> nn.Tensor:
    """What a norm returned as rows `(1, s, K)` that are normalised."""
    return x.norm.rows(x.rows) if isinstance(x, Normalized) else x

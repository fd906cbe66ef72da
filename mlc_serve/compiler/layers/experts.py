"""Mixtures of experts on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from tvm import tirx
from tvm.relax.frontend import nn

from mlc_serve.compiler.kernels.cpu.experts.arithmetic import Arithmetic
from mlc_serve.compiler.kernels.cpu.experts.mlps import expert_mlps
from mlc_serve.compiler.kernels.cpu.experts.routing import choose_experts
from mlc_serve.compiler.kernels.cpu.experts.shared_gate import shared_gate
from mlc_serve.compiler.kernels.cpu.linear.epilogue import Epilogue
from mlc_serve.compiler.kernels.cpu.linear.float_matmul import float_matmul
from mlc_serve.compiler.kernels.cpu.primitives.float_unit import FloatUnit
from mlc_serve.compiler.layers.stacked_weight import StackedWeight
from mlc_serve.models.parts.experts import Experts
from mlc_serve.quantization.packing import tiles16_shape

# A model has many layers of one shape: each kernel is parsed once.
_mlps: Callable[..., tirx.PrimFunc] = lru_cache(maxsize=None)(expert_mlps)
_choose: Callable[..., tirx.PrimFunc] = lru_cache(maxsize=None)(choose_experts)
_logits: Callable[..., tirx.PrimFunc] = lru_cache(maxsize=None)(float_matmul)


class Choice(NamedTuple):
    """The experts of each token."""

    ids: nn.Tensor  # (s, k) int32
    shares: nn.Tensor  # (s, k) float32: what the experts' results are multiplied by


class Router(nn.Module):
    """Chooses experts. Its weight is float32 under every scheme, because its size hardly counts, and another
    choice changes a token's result much.
    """

    def __init__(self, experts: Experts, hidden: int, unit: FloatUnit) -> None:
        self._experts, self._hidden, self._unit = experts, hidden, unit
        self.weight = nn.Parameter(tiles16_shape(experts.num_experts, hidden), "float32")
        self.weight.attrs["layout"] = "tiles16"
        self.weight.attrs["logical_shape"] = [experts.num_experts, hidden]
        self.bias = _optional(experts.num_experts, experts.routing.bias)
        self.correction = _optional(experts.num_experts, experts.routing.correction)

    def forward(self, rows: nn.Tensor) -> Choice:
        """`(1, s, hidden)` -> the choice of each row."""
        logits, num_rows = self._logits(rows), rows.shape[1]
        correction = logits if self.correction is None else self.correction
        shape = [num_rows, self._experts.num_active]
        out = [nn.Tensor.placeholder(shape, "int32"), nn.Tensor.placeholder(shape, "float32")]
        kernel = _choose(self._experts)
        return Choice(*nn.op.tensor_ir_op(kernel, "choose_experts", [logits, correction], out))

    def _logits(self, rows: nn.Tensor) -> nn.Tensor:
        num_experts, epilogue = self._experts.num_experts, Epilogue(bias=self.bias is not None)
        kernel = _logits(num_experts, self._hidden, "float32", epilogue, "float32", self._unit)
        out = nn.Tensor.placeholder([1, rows.shape[1], num_experts], "float32")
        operands = [rows, self.weight, rows if self.bias is None else self.bias, rows]
        return nn.op.tensor_ir_op(kernel, f"float_matmul_{epilogue.name}", operands, out)


def _optional(length: int, exists: bool) -> nn.Parameter | None:
    """A float32 vector, or none."""
    return nn.Parameter([length], "float32") if exists else None


class ExpertMLPs(nn.Module):
    """The MLPs of all experts."""

    def __init__(self, experts: Experts, hidden: int, arithmetic: Arithmetic) -> None:
        self._experts, self._hidden, self._arithmetic = experts, hidden, arithmetic
        number, inner, bias = experts.num_experts, experts.inner, experts.bias
        self.gate_up_proj = StackedWeight(number, (2 * inner, hidden), arithmetic, is_paired=True, bias=bias)
        self.down_proj = StackedWeight(number, (hidden, inner), arithmetic, bias=bias)

    def add_to(self, residual: nn.Tensor, rows: nn.Tensor, choice: Choice) -> nn.Tensor:
        """Residual + the shares of the experts' results for the rows, all `(1, s, hidden)`."""
        kernel = _mlps(self._experts, self._hidden, self._arithmetic)
        weights = [*_operands(self.gate_up_proj, rows), *_operands(self.down_proj, rows)]
        out = nn.Tensor.placeholder(rows.shape, "float32")
        return nn.op.tensor_ir_op(kernel, "expert_mlps", [rows, *choice, *weights, residual], out)


def _operands(weight: StackedWeight, unread: nn.Tensor) -> list[nn.Tensor]:
    """Two parameters and the bias, as `expert_mlps` takes them. `unread` takes the place of no bias."""
    return [*weight.parameters_of(), unread if weight.bias is None else weight.bias]


class SharedGate(nn.Module):
    """The gate of the shared expert, float32 under every scheme."""

    def __init__(self, hidden: int) -> None:
        self._hidden = hidden
        self.weight = nn.Parameter([1, hidden], "float32")

    def forward(self, rows: nn.Tensor, inner_values: nn.Tensor) -> nn.Tensor:
        """Rows `(1, s, hidden)`, inner values `(1, s, n)` -> the inner values times their rows' gates."""
        kernel = shared_gate(self._hidden, int(inner_values.shape[2]))
        out = nn.Tensor.placeholder(inner_values.shape, "float32")
        return nn.op.tensor_ir_op(kernel, "shared_gate", [rows, self.weight, inner_values], out)

"""Mixtures of experts on GPUs. Products are plain loops over the weights of the chosen experts, which dlight
schedules.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tvm import te
from tvm.relax.frontend import nn

from mlc_serve.compiler.kernels.cpu.experts.gate import gated
from mlc_serve.compiler.kernels.gpu.choose_experts import choose_experts
from mlc_serve.models.parts.experts import Experts


class PlainChoice(NamedTuple):
    """The experts of each token."""

    ids: nn.Tensor  # (s, k) int32
    shares: nn.Tensor  # (s, k) float32: what the experts' results are multiplied by


class PlainRouter(nn.Module):
    """Chooses experts, with a row-major weight. Logits are float32."""

    def __init__(self, experts: Experts, hidden: int, dtype: str) -> None:
        self._experts = experts
        self.weight = nn.Parameter([experts.num_experts, hidden], dtype)
        self.bias = nn.Parameter([experts.num_experts], "float32") if experts.routing.bias else None
        self.correction = (
            nn.Parameter([experts.num_experts], "float32") if experts.routing.correction else None
        )

    def forward(self, rows: nn.Tensor) -> PlainChoice:
        """`(1, s, hidden)` -> the choice of each row."""
        logits = nn.op.matmul(rows, nn.op.permute_dims(self.weight), out_dtype="float32")
        if self.bias is not None:
            logits = logits + self.bias
        correction = logits if self.correction is None else self.correction
        shape = [rows.shape[1], self._experts.num_active]
        out = [nn.Tensor.placeholder(shape, "int32"), nn.Tensor.placeholder(shape, "float32")]
        kernel = choose_experts(self._experts)
        return PlainChoice(*nn.op.tensor_ir_op(kernel, "choose_experts", [logits, correction], out))


class _PlainProduct(nn.Module):
    """One product of all experts, with a row-major weight and a bias if it has one."""

    def __init__(self, experts: Experts, num_columns: int, depth: int, dtype: str) -> None:
        self._num_columns, self._depth = num_columns, depth
        self.weight = nn.Parameter([experts.num_experts * num_columns, depth], dtype)
        self.bias = nn.Parameter([experts.num_experts * num_columns], "float32") if experts.bias else None

    def forward(self, rows: nn.Tensor, ids: nn.Tensor) -> nn.Tensor:
        """Rows `(s, 1 or k, K)` and chosen experts `(s, k)` -> `(s, k, N)` float32."""
        inputs = [rows, ids, self.weight, *([] if self.bias is None else [self.bias])]
        return nn.op.tensor_expr_op(self._product, "expert_product", inputs)

    def _product(self, x: te.Tensor, ids: te.Tensor, w: te.Tensor, bias: te.Tensor | None = None) -> Any:
        shape = (*ids.shape, self._num_columns)
        k = te.reduce_axis((0, self._depth), "k")
        is_shared = int(x.shape[1]) == 1

        def product(token: Any, choice: Any, n: Any) -> Any:
            row = ids[token, choice] * self._num_columns + n
            value = x[token, 0 if is_shared else choice, k]
            return te.sum(value.astype("float32") * w[row, k].astype("float32"), axis=k)

        sums = te.compute(shape, product, "sums")
        if bias is None:
            return sums
        return te.compute(
            shape, lambda t, j, n: sums[t, j, n] + bias[ids[t, j] * self._num_columns + n], "result"
        )


class PlainExpertMLPs(nn.Module):
    """The MLPs of all experts."""

    def __init__(self, experts: Experts, hidden: int, dtype: str) -> None:
        self._experts, self._hidden, self._dtype = experts, hidden, dtype
        self.gate_up_proj = _PlainProduct(experts, 2 * experts.inner, hidden, dtype)
        self.down_proj = _PlainProduct(experts, hidden, experts.inner, dtype)

    def add_to(self, residual: nn.Tensor, rows: nn.Tensor, choice: PlainChoice) -> nn.Tensor:
        """Residual + the shares of the experts' results for the rows, all `(1, s, hidden)`."""
        gate_up = self.gate_up_proj(rows.reshape(rows.shape[1], 1, self._hidden), choice.ids)
        inner_values = nn.op.tensor_expr_op(self._activate, "activate", [gate_up])
        results = self.down_proj(inner_values, choice.ids)
        mixed = nn.op.tensor_expr_op(_mixed, "mix", [results, choice.shares])
        return residual + mixed.astype(self._dtype)

    def _activate(self, gate_up: te.Tensor) -> te.Tensor:
        inner = self._experts.inner

        def value(token: Any, choice: Any, n: Any) -> Any:
            gate, up = gate_up[token, choice, n], gate_up[token, choice, inner + n]
            return gated(self._experts.activation, gate, up).astype(self._dtype)

        return te.compute((*gate_up.shape[:2], inner), value, "inner_values")


def _mixed(results: te.Tensor, shares: te.Tensor) -> te.Tensor:
    """`(s, k, hidden)` and `(s, k)` -> `(1, s, hidden)`."""
    num_tokens, num_active, hidden = results.shape
    j = te.reduce_axis((0, num_active), "j")
    return te.compute(
        (1, num_tokens, hidden), lambda _, t, n: te.sum(results[t, j, n] * shares[t, j], axis=j), "mixed"
    )


class PlainSharedGate(nn.Module):
    """The gate of the shared expert."""

    def __init__(self, hidden: int, dtype: str) -> None:
        self.weight = nn.Parameter([1, hidden], dtype)

    def forward(self, rows: nn.Tensor, inner_values: nn.Tensor) -> nn.Tensor:
        """Rows `(1, s, hidden)`, inner values `(1, s, n)` -> the inner values times their rows' gates."""
        products = rows.astype("float32") * self.weight.astype("float32")
        gates = nn.op.sigmoid(nn.op.sum(products, axis=-1, keepdims=True))
        return inner_values * gates.astype(inner_values.dtype)

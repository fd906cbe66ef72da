"""A mixture of experts, put together from a device's layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm.relax.frontend import nn

from mlc_serve.models.layers import Layers, Linear
from mlc_serve.models.parts.experts import Experts


class SharedExpert(nn.Module):
    """The MLP that all tokens are sent to."""

    def __init__(self, gate_up_proj: Linear, down_proj: Linear) -> None:
        self.gate_up_proj, self.down_proj = gate_up_proj, down_proj

    @classmethod
    def make(cls, layers: Layers, spec: Experts, hidden: int) -> SharedExpert | None:
        """The shared expert of a mixture, if it has one."""
        if spec.shared is None:
            return None
        gate_up = layers.linear(hidden, 2 * spec.shared, activation="silu", gated=True)
        return cls(gate_up, layers.linear(spec.shared, hidden))


class Mixture(nn.Module):
    """Implements models.layers.ExpertLayer. `plain_rows` turns what a norm returns into normalised rows."""

    def __init__(
        self,
        router: nn.Module,
        experts: nn.Module,
        shared_expert: SharedExpert | None,
        shared_gate: nn.Module | None,
        plain_rows: Callable[[Any], nn.Tensor],
    ) -> None:
        self.router, self.experts = router, experts
        self.shared_expert, self.shared_gate = shared_expert, shared_gate
        self._plain_rows = plain_rows

    def add_to(self, residual: nn.Tensor, x: Any) -> nn.Tensor:
        """Residual + what the experts make of x."""
        rows = self._plain_rows(x)
        mixed = self.experts.add_to(residual, rows, self.router(rows))
        return mixed if self.shared_expert is None else self._add_shared(self.shared_expert, mixed, x, rows)

    def _add_shared(self, shared: SharedExpert, residual: nn.Tensor, x: Any, rows: nn.Tensor) -> nn.Tensor:
        inner_values = shared.gate_up_proj.activated(x)
        if self.shared_gate is not None:
            # Multiplying the inner values is the same as multiplying the result, and less work.
            inner_values = self.shared_gate(rows, inner_values)
        return shared.down_proj.add_to(residual, inner_values)

"""How gate and up become one value."""

from __future__ import annotations

from typing import Any

from tvm import tirx

from mlc_serve.compiler.kernels.cpu.primitives.activation import activated
from mlc_serve.compiler.kernels.cpu.primitives.exponential import sigmoid
from mlc_serve.models.parts.experts import ClampedSwiGLU, ExpertActivation


def gated(activation: ExpertActivation, gate: Any, up: Any) -> Any:
    """The activation of two float32 values."""
    if not isinstance(activation, ClampedSwiGLU):
        return activated(activation, gate) * up
    limit = tirx.const(activation.limit, "float32")
    gate = tirx.min(gate, limit)
    up = tirx.max(tirx.min(up, limit), -limit)
    return gate * sigmoid(gate * tirx.const(activation.alpha, "float32")) * (up + tirx.const(1.0, "float32"))

"""The activations of models, as formulas that stay in registers."""

from __future__ import annotations

import math
from typing import Any

from tvm import tirx

from mlc_serve.compiler.kernels.cpu.primitives.error_function import erf
from mlc_serve.compiler.kernels.cpu.primitives.exponential import sigmoid
from mlc_serve.models.parts.activation import Activation


def activated(activation: Activation, x: Any) -> Any:
    """The activation of float32 x, in a loop that TVM vectorizes."""
    match activation:
        case "silu":
            return x * sigmoid(x)
        case "gelu":
            return x * _const(0.5) * (_const(1.0) + erf(x * _const(math.sqrt(0.5))))
        case "gelu_tanh":
            # (1 + tanh(u)) / 2 is sigmoid(2 u), which is as precise far below zero, too.
            cubic = x + x * x * x * _const(0.044715)
            return x * sigmoid(cubic * _const(2 * math.sqrt(2 / math.pi)))
        case "relu_squared":
            positive = tirx.Select(x < _const(0.0), _const(0.0), x)  # unlike a maximum, it keeps NaN
            return positive * positive


def _const(value: float) -> Any:
    return tirx.const(value, "float32")

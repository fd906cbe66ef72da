"""The error function as a formula that stays in registers. LLVM would call libm for each lane."""

from __future__ import annotations

import math

import tvm
from tvm import tirx

from mlc_serve.compiler.kernels.cpu.primitives.exponential import exp2

# Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26: the error is below 1.5e-7.
_P = 0.3275911
_COEFFICIENTS = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)


def erf(x: tvm.ir.Expr) -> tvm.ir.Expr:
    """The error function of float32 x, in a loop that TVM vectorizes."""
    one, zero = tirx.const(1.0, "float32"), tirx.const(0.0, "float32")
    size = tirx.max(x, zero - x)
    t = one / (one + size * tirx.const(_P, "float32"))
    series = tirx.const(_COEFFICIENTS[-1], "float32")
    for coefficient in reversed(_COEFFICIENTS[:-1]):
        series = series * t + tirx.const(coefficient, "float32")
    distance = one - series * t * exp2(size * size * tirx.const(-math.log2(math.e), "float32"))
    return tirx.Select(x < zero, zero - distance, distance)

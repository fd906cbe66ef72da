"""The hyperbolic tangent as a formula that stays in registers. LLVM would call libm for each lane."""

from __future__ import annotations

import math

import tvm
from tvm import tirx

from mlc_serve.compiler.kernels.cpu.primitives.vector import broadcast

# 2^f - 1 on [-0.5, 0.5] by its Taylor series in f: with seven terms the relative error is below 3e-8.
_COEFFICIENTS = [math.log(2) ** k / math.factorial(k) for k in range(1, 8)]
_LARGEST = 10.0  # from there on the tangent is 1 in float32


def tanh(x: tvm.ir.Expr, lanes: int = 1) -> tvm.ir.Expr:
    """The tangent of float32 x, within a few units in the last place. NaN stays NaN.

    `lanes` is the length of an explicit vector; in a loop that TVM vectorizes, x is a scalar.
    """
    zero, largest = _const(0.0, lanes), _const(_LARGEST, lanes)
    size = tirx.Select(x < zero, zero - x, x)
    size = tirx.Select(size > largest, largest, size)  # unlike a minimum, it keeps NaN
    # With m = e^(-2 size) - 1 the tangent is -m / (2 + m), without cancellation near zero.
    m = _exp2_minus_one(size * _const(-2 * math.log2(math.e), lanes), lanes)
    tangent = (zero - m) / (_const(2.0, lanes) + m)
    return tirx.Select(x < zero, zero - tangent, tangent)


def _exp2_minus_one(x: tvm.ir.Expr, lanes: int) -> tvm.ir.Expr:
    """2**x - 1 for x in [-126, 126], with a small relative error also near zero."""
    integer, real = ("int32", "float32") if lanes == 1 else (f"int32x{lanes}", f"float32x{lanes}")
    whole = tirx.floor(x + _const(0.5, lanes))
    fraction = x - whole
    series = _const(_COEFFICIENTS[-1], lanes)
    for coefficient in reversed(_COEFFICIENTS[:-1]):
        series = series * fraction + _const(coefficient, lanes)
    exponent = tirx.shift_left(tirx.Cast(integer, whole) + tirx.const(127, "int32"), tirx.const(23, "int32"))
    power = tirx.reinterpret(real, exponent)
    return series * fraction * power + (power - _const(1.0, lanes))


def _const(value: float, lanes: int) -> tvm.ir.Expr:
    scalar = tirx.const(value, "float32")
    return scalar if lanes == 1 else broadcast(scalar, lanes)

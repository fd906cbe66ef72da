"""exp2 as a polynomial, which stays in registers. For a vector LLVM would call libm once for each lane."""

from __future__ import annotations

import math

import tvm
from tvm import tirx

# 2^f on [-0.5, 0.5] by its Taylor series in f: with seven terms the relative error is below 1.3e-7.
_COEFFICIENTS = [math.log(2) ** k / math.factorial(k) for k in range(7)]


def exp2(x: tvm.ir.Expr, lanes: int = 1) -> tvm.ir.Expr:
    """2**x for float32 x. Below -126 it is 2**-126, above 126 it is 2**126.

    `lanes` is the length of an explicit vector; in a loop that TVM vectorizes, x is a scalar.
    """
    integer, real = ("int32", "float32") if lanes == 1 else (f"int32x{lanes}", f"float32x{lanes}")
    x = tirx.max(tirx.min(x, tirx.const(126.0, "float32")), tirx.const(-126.0, "float32"))
    whole = tirx.floor(x + tirx.const(0.5, "float32"))
    fraction = x - whole
    power = tirx.const(_COEFFICIENTS[-1], "float32")
    for coefficient in reversed(_COEFFICIENTS[:-1]):
        power = power * fraction + tirx.const(coefficient, "float32")
    exponent = tirx.shift_left(tirx.Cast(integer, whole) + tirx.const(127, "int32"), tirx.const(23, "int32"))
    return power * tirx.reinterpret(real, exponent)


def sigmoid(x: tvm.ir.Expr) -> tvm.ir.Expr:
    """1 / (1 + e**-x) for float32 x."""
    one = tirx.const(1.0, "float32")
    return one / (one + exp2(x * tirx.const(-math.log2(math.e), "float32")))

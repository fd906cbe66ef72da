"""Sine and cosine of angles in turns, as a polynomial. LLVM would call libm once for each lane."""

from __future__ import annotations

import math
from typing import Any

from tvm import tirx

# sin(2 pi x) on [-1/4, 1/4] by its Taylor series: the eighth term would add less than 1e-9.
_COEFFICIENTS = [(-1) ** k * (2 * math.pi) ** (2 * k + 1) / math.factorial(2 * k + 1) for k in range(7)]


def _const(value: float) -> Any:
    return tirx.const(value, "float32")


def part_of_a_turn(position: Any, frequency: Any) -> Any:
    """The part of position * frequency turns that is left after whole turns, in [-1/2, 1/2].

    Both are float64. In float32 an angle of 1e5 would be known to no better than 1 / 256.
    """
    turns = position * frequency
    return turns - tirx.floor(turns + tirx.const(0.5, "float64"))


def sine(turns: Any) -> Any:
    """sin(2 pi turns) for turns in [-1/2, 1/2]."""
    half = _const(0.5)
    return _sine(tirx.max(tirx.min(turns, half - turns), -half - turns))


def cosine(turns: Any) -> Any:
    """cos(2 pi turns) for turns in [-1/2, 1/2]."""
    return _sine(_const(0.25) - tirx.max(turns, -turns))


def _sine(x: Any) -> Any:
    square = x * x
    series = _const(_COEFFICIENTS[-1])
    for coefficient in reversed(_COEFFICIENTS[:-1]):
        series = series * square + _const(coefficient)
    return x * series

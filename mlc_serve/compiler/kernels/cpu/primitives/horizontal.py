"""Reductions across the lanes of a vector, in log2(lanes) steps. LLVM's own go lane by lane for NaN."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import tirx


def horizontal_max(vector: Any, lanes: int) -> Any:
    """The greatest of the lanes, a power of two of them."""
    return _halve(vector, lanes, tirx.max)


def horizontal_sum(vector: Any, lanes: int) -> Any:
    """The sum of the lanes, a power of two of them."""
    return _halve(vector, lanes, lambda a, b: a + b)


def _halve(vector: Any, lanes: int, combine: Callable[[Any, Any], Any]) -> Any:
    if lanes == 1:
        return vector
    half = lanes // 2
    return _halve(combine(_part(vector, 0, half), _part(vector, half, half)), half, combine)


def _part(vector: Any, first: int, count: int) -> Any:
    return tirx.Shuffle([vector], [tirx.const(first + i, "int32") for i in range(count)])

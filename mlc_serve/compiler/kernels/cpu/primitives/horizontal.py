"""Reductions across the lanes of a vector, in log2(lanes) steps. Because NaN must be kept, LLVM's own
reductions would go lane by lane.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import tirx


def horizontal_max(vector: Any, lanes: int) -> Any:
    """The greatest of `lanes` lanes, a power of two."""
    return _reduced(vector, lanes, tirx.max)


def horizontal_sum(vector: Any, lanes: int) -> Any:
    """The sum of `lanes` lanes, a power of two."""
    return _reduced(vector, lanes, lambda a, b: a + b)


def _reduced(vector: Any, lanes: int, combine: Callable[[Any, Any], Any]) -> Any:
    if lanes == 1:
        return vector
    half = lanes // 2
    return _reduced(combine(_part(vector, 0, half), _part(vector, half, half)), half, combine)


def _part(vector: Any, first: int, count: int) -> Any:
    return tirx.Shuffle([vector], [tirx.const(first + i, "int32") for i in range(count)])

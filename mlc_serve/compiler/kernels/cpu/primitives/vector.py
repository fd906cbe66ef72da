"""Explicit vectors, for code that takes or returns a whole register.

Arithmetic on each lane by itself is written as a loop, `for lane in T.vectorized(n)`, wherever TVM can turn
the loop's body into vectors. Instructions, changes of the number of lanes, and vectors that Python functions
compute with are not such bodies: they take `buffer[vector(first, n)]`, and scalars by `broadcast`.
"""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T

from mlc_serve.quantization.packing import LANES


def vector(first: Any, count: int = LANES) -> Any:
    """The indices of `count` elements that lie side by side; the index itself if there is one."""
    return T.Ramp(first, 1, count) if count > 1 else first


def broadcast(value: Any, count: int = LANES) -> Any:
    """A vector with `value` in each of `count` lanes; the value itself if there is one."""
    return T.Broadcast(value, count) if count > 1 else value


def widened(values: Any, count: int) -> Any:
    """`count` values as float32."""
    return T.Cast(f"float32x{count}" if count > 1 else "float32", values)

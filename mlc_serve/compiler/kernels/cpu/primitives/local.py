"""Buffers of one task."""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T


def local(shape: tuple[int, ...], dtype: str = "float32") -> Any:
    """A buffer on the stack, for the rest of the block that it is made in; indexed by constants alone, in
    registers.

    A buffer of a block comes from a pool instead, at the price of a call each time, and stays in memory.
    """
    return T.alloc_buffer(shape, dtype, scope="local", annotations={"disable_lower_builtin": True})

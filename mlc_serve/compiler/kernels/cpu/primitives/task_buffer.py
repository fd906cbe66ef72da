"""Buffers of one task."""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T


def local(shape: tuple[int, ...], dtype: str = "float32") -> Any:
    """A buffer on the stack, for the rest of the TIR block that it is made in. LLVM keeps it in registers if
    all its indices are constants.

    A buffer that a TIR block allocates comes from a pool instead, which costs a call each time, and stays in
    memory.
    """
    return T.alloc_buffer(shape, dtype, scope="local", annotations={"disable_lower_builtin": True})

"""Requests cache lines before they are needed."""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T


def fetch_line(element: Any) -> Any:
    """Request the cache line of an element of a buffer for reading, into the nearest cache. An address beyond
    the buffer's end does no harm.
    """
    to_read, nearest, data = T.int32(0), T.int32(3), T.int32(1)
    return T.call_llvm_intrin("void", "llvm.prefetch", T.address_of(element), to_read, nearest, data)

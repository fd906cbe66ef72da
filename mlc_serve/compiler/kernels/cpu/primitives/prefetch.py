"""Cache lines that are asked for before they are needed."""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T


def fetch_line(element: Any) -> Any:
    """Fetch the line of an element of a buffer into the nearest cache, to be read. An element that isn't
    there is no fault.
    """
    to_read, nearest, data = T.int32(0), T.int32(3), T.int32(1)
    return T.call_llvm_intrin("void", "llvm.prefetch", T.address_of(element), to_read, nearest, data)

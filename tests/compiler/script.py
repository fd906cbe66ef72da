"""Scripts that use many branches of TVM's parser: macros called twice, names, constants, conditions."""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T


@T.macro
def add(target: Any, i: Any, value: Any) -> None:
    """Add a value to one element."""
    target[i] = target[i] + value


def scaled(factor: int) -> Any:
    """A kernel that depends on this function's parameter."""

    @T.prim_func(private=True, s_tir=True)
    def kernel(a: T.handle, b: T.handle) -> None:
        n = T.int64()
        source = T.match_buffer(a, (n,), "float32")
        target = T.match_buffer(b, (n,), "float32")
        for i in range(n):
            with T.sblock("scale"):
                row = T.axis.spatial(n, i)
                target[row] = source[row] * T.float32(factor)
                add(target, row, T.float32(1))
                if factor > 2:
                    add(target, row, source[row])

    return kernel


def undefined() -> Any:
    """A kernel that uses an undefined name."""

    @T.prim_func(private=True, s_tir=True)
    def kernel(a: T.handle) -> None:
        source = T.match_buffer(a, (4,), "float32")
        source[0] = nowhere  # type: ignore[name-defined]  # noqa: F821

    return kernel

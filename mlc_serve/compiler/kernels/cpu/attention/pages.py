"""The pages of the KV cache.

A page holds 16 positions of each KV head. V lies position by position, `[16, d]`. K lies dimension by
dimension, `[d, 16]`, so that the scores of a whole page come from adding up vectors of 16 positions, with no
sum across a register. A slot is a place for one token: slot n is position n % 16 of page n // 16.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.script import tirx as T

PAGE_SIZE = 16


def pages_shape(num_pages: Any, num_kv_heads: int, head_dim: int) -> tuple[Any, ...]:
    """The shape of a layer's pages: K of a page at 0, V at 1."""
    return (num_pages, 2, num_kv_heads, PAGE_SIZE * head_dim)


def match_pages(handle: Any, num_pages: Any, num_kv_heads: int, head_dim: int, dtype: str) -> Any:
    """The pages of one layer behind a handle."""
    return T.match_buffer(handle, pages_shape(num_pages, num_kv_heads, head_dim), dtype)


def match_int32(handle: Any, length: Any) -> Any:
    """The int32 vector behind a handle, which may be a part of a larger one."""
    return T.match_buffer(handle, (length,), "int32", elem_offset=tirx.Var("offset", "int32"))

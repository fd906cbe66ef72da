"""The pages of the KV cache.

A page holds 16 positions of each KV head. V lies position by position, `[16, d]`. K lies dimension by
dimension, `[d, 16]`, so that the scores of a whole page come from adding up vectors of 16 positions, with no
sum across a register. Where values are a part of the keys, as in latent attention, a page has no V, and K
lies position by position. A slot is a place for one token: slot n is position n % 16 of page n // 16.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.attention.heads import Heads

PAGE_SIZE = 16


def pages_shape(num_pages: Any, heads: Heads) -> tuple[Any, ...]:
    """The shape of a layer's pages: K of a page at 0, V at 1 if it is stored."""
    return (num_pages, heads.value_part + 1, heads.num_kv, PAGE_SIZE * heads.dim)


def match_pages(handle: Any, num_pages: Any, heads: Heads, dtype: str) -> Any:
    """The pages of one layer behind a handle."""
    return T.match_buffer(handle, pages_shape(num_pages, heads), dtype)


def match_int32(handle: Any, length: Any) -> Any:
    """The int32 vector behind a handle, which may be a part of a larger one."""
    return T.match_buffer(handle, (length,), "int32", elem_offset=tirx.Var("offset", "int32"))

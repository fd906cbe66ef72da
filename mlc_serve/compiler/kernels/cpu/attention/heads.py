"""The heads of attention, whose numbers every kernel is made for."""

from __future__ import annotations

from typing import Any, NamedTuple

from tvm.script import tirx as T


class Heads(NamedTuple):
    """`num_q` query heads share `num_kv` heads of keys and values. Each has `dim` values."""

    num_q: int
    num_kv: int
    dim: int

    @property
    def group(self) -> int:
        """Query heads to a KV head."""
        return self.num_q // self.num_kv


def by_head(rows: Any, heads: Heads) -> Any:
    """A buffer of attention's results `(1, s, hq d)` as `(s, hq, d)`."""
    _, num_rows, _ = rows.shape
    return T.decl_buffer((num_rows, heads.num_q, heads.dim), rows.dtype, data=rows.data)

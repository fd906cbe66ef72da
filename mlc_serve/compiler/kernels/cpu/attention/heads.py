"""The heads of attention, whose numbers every kernel is made for."""

from __future__ import annotations

from typing import NamedTuple


class Heads(NamedTuple):
    """`num_q` query heads share `num_kv` heads of keys and values. Each has `dim` values."""

    num_q: int
    num_kv: int
    dim: int

    @property
    def group(self) -> int:
        """Query heads to a KV head."""
        return self.num_q // self.num_kv

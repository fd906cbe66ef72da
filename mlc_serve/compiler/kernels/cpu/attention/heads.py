"""The heads of attention, whose numbers every kernel is made for."""

from __future__ import annotations

from typing import Any, NamedTuple

from tvm.script import tirx as T


class Heads(NamedTuple):
    """`num_q` query heads share `num_kv` heads of keys and values. Each has `dim` values.

    With `latent`, only keys are stored: the value of a position is the last `latent` values of its key.
    """

    num_q: int
    num_kv: int
    dim: int
    latent: int | None = None

    @property
    def group(self) -> int:
        """Query heads to a KV head."""
        return self.num_q // self.num_kv

    @property
    def value_dim(self) -> int:
        """How many values a value has."""
        return self.dim if self.latent is None else self.latent

    @property
    def first_value(self) -> int:
        """Where a value begins in a position's row of `dim` values."""
        return self.dim - self.value_dim

    @property
    def value_part(self) -> int:
        """Which part of a page holds the values."""
        return 1 if self.latent is None else 0

    @property
    def num_new(self) -> int:
        """Heads of a new token's queries, keys and values together."""
        return self.num_q + (self.value_part + 1) * self.num_kv


def by_head(rows: Any, heads: Heads) -> Any:
    """A buffer of attention's results `(1, s, hq dv)` as `(s, hq, dv)`."""
    _, num_rows, _ = rows.shape
    return T.decl_buffer((num_rows, heads.num_q, heads.value_dim), rows.dtype, data=rows.data)

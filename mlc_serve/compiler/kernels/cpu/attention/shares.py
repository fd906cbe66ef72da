"""How the pages that few rows see are cut into shares, which threads take.

For each n, the pages that the nth rows of all sequences see, one after another, are cut into equal shares: as
in a decode of these rows alone. So a row's result does not depend on how many rows follow it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.attention.pages import PAGE_SIZE
from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local
from mlc_serve.compiler.kernels.cpu.primitives.thread_cost import VALUES_PER_WAKING

MAX_SHARES = 64
_FIRST_SHARES = 4
_FIRST_SHARE_VALUES = VALUES_PER_WAKING // 8  # attending to a value of a key costs as much as rotating 8
_SHARE_VALUES = 1 << 16  # the fewest values of keys in a share, if there are more than the first shares


class Shares(NamedTuple):
    """The pages that nth rows see are cut into count[n] shares. Those of sequence b are numbers first[n, b]
    to before first[n, b + 1]. All are int32 buffers.

    A task is one share of all rows. If there is a single share, it may be of every `num_splits`th row.
    """

    first: Any  # (most rows, b + 1)
    count: Any  # (most rows,)
    num_rows: Any  # (1,) the most rows of a sequence
    num_shares: Any  # (1,) the most shares of nth rows
    num_splits: Any  # (1,)

    def bound(self, n: Any, share: Any, batch: Any) -> Any:
        """The first page of a share."""
        return share * self.first[n, batch] // self.count[n]

    def share_of(self, n: Any, page: Any, batch: Any) -> Any:
        """The share that a page is in."""
        work = self.first[n, batch]
        return ((page + 1) * self.count[n] + work - 1) // work - 1

    @property
    def num_tasks(self) -> Any:
        """How many tasks there are."""
        return self.num_shares[0] * self.num_splits[0]


def _least_pages(values: int, key_size: int) -> int:
    """How many pages hold so many values of keys, at least one."""
    return max(1, values // (PAGE_SIZE * key_size))


def _num_shares(work: Any, key_size: int) -> Any:
    """One, or a power of two from four on.

    With a power of two, all threads get equally many shares, because mostly the number of threads is even.
    Four is the least, because most processors have four cores. There are more shares only if there is more
    work, because the parts of a sequence must be joined.
    """
    first, least = (_least_pages(values, key_size) for values in (_FIRST_SHARE_VALUES, _SHARE_VALUES))
    count: Any = tirx.Select(work >= _FIRST_SHARES * first, _FIRST_SHARES, tirx.const(1, "int32"))
    for exponent in range(_FIRST_SHARES.bit_length(), MAX_SHARES.bit_length()):
        count = tirx.Select(work >= least << exponent, tirx.const(1 << exponent, "int32"), count)
    return count


def cut_macro(key_size: int) -> Any:
    """The macro `cut(shares, table, rows, batch)`: fill `Shares` for a batch of `FewRows`."""
    first_work = _FIRST_SHARES * _least_pages(_FIRST_SHARE_VALUES, key_size)

    @T.macro
    def cut_nth(shares, table, rows, batch, n):
        shares.first[n, 0] = 0
        for b in T.serial(batch):
            shares.first[n, b + 1] = shares.first[n, b] + T.if_then_else(
                n < rows.num_of(b), table.of_row(rows.num_later(b, n)).num_seen_pages(b), 0
            )
        shares.count[n] = _num_shares(shares.first[n, batch], key_size)

    @T.macro
    def cut(shares, table, rows, batch):
        with T.sblock("cut"):
            T.reads()
            T.writes()
            work = local((1,), "int32")
            work[0] = 0
            shares.num_rows[0] = 0
            shares.num_shares[0] = 1
            for b in T.serial(batch):
                shares.num_rows[0] = T.max(shares.num_rows[0], rows.num_of(b))
            for n in T.serial(shares.num_rows[0]):
                cut_nth(shares, table, rows, batch, n)
                shares.num_shares[0] = T.max(shares.num_shares[0], shares.count[n])
                work[0] = work[0] + shares.first[n, batch]
            shares.num_splits[0] = T.if_then_else(
                T.And(shares.num_shares[0] == 1, work[0] >= first_work),
                T.min(shares.num_rows[0], _FIRST_SHARES),
                1,
            )

    return cut

"""Which rows of a batch are the new tokens of each sequence, where these are few."""

from __future__ import annotations

from typing import Any, NamedTuple

from tvm import tirx

# The most new tokens of a sequence that are computed as in a decode: one and 16 drafts. More become panels.
MOST_FEW = 17


class FewRows(NamedTuple):
    """Sequence b has the rows first[b] to before first[b + 1] of a batch, where `first` is an int32 buffer.
    If these are more than `most`, it counts as having none. Without `first`, it has row b alone.

    A sequence's nth row is that of the new token that n others come before.
    """

    most: int
    first: Any = None

    def num_of(self, b: Any) -> Any:
        """How many rows sequence b has."""
        if self.first is None:
            return 1
        number = self.first[b + 1] - self.first[b]
        return tirx.Select(number <= self.most, number, tirx.const(0, "int32"))

    def row(self, b: Any, n: Any) -> Any:
        """Which row of the batch is sequence b's nth."""
        return b if self.first is None else self.first[b] + n

    def num_later(self, b: Any, n: Any) -> Any:
        """How many rows of sequence b come after its nth."""
        return 0 if self.first is None else self.first[b + 1] - self.first[b] - 1 - n

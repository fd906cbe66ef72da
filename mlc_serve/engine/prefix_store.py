"""Keeps the pages of prefixes for which the model's state has no room."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from mlc_serve.engine.sequence_pages import SequencePages

# Returns a copy of the pages of the tokens at positions [start, stop).
Export = Callable[[int, int], SequencePages]


class Prefix(NamedTuple):
    """The first tokens of sequences of one namespace."""

    namespace: str
    token_ids: Sequence[int]


class PrefixStore(Protocol):
    """What the prefix cache asks of a store. Called on the engine's thread, where it waits for no disk."""

    def offer(self, prefix: Prefix, export: Export, start: int, *, is_last: bool) -> int:
        """Take the whole pages of a prefix from the position `start` on that are not stored yet, by calling
        `export`, and return the position up to which nothing is missing now. This may be short of the end,
        since only so much is taken at a time; `is_last` says that the rest will be lost.
        """

    def clear(self) -> None:
        """Forget all prefixes."""

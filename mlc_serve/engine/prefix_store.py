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

    def offer(self, prefix: Prefix, export: Export) -> bool:
        """Take the whole pages of a prefix that are not stored yet, by calling `export`, from the first one
        on as far as there is room for them now. Return whether this was all that was missing.
        """

    def clear(self) -> None:
        """Forget all prefixes."""

"""The state of sequences as forward passes need it, and which one a library takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from mlc_serve.engine.limits import EngineLimits
from mlc_serve.engine.sequence_state import SequenceState
from mlc_serve.runtime.library import Library
from mlc_serve.runtime.paged_kv import PagedKV
from mlc_serve.runtime.tvm_kv_cache import TVMKVCache


class SequenceCache(SequenceState, Protocol):
    """A SequenceState that a library's functions read and write."""

    arguments: tuple[Any, ...]  # what functions take as their state, before the parameters

    def begin_forward(self, seq_ids: Sequence[int], lengths: Sequence[int]) -> None:
        """Take room for that many tokens of each sequence, which the next call of a function computes. There
        must be enough free pages.
        """

    def end_forward(self) -> None:
        """End the forward pass, also if it failed."""

    def result_of(self, returned: Any) -> Any:
        """Return the result of a function, which perhaps returns its state too."""


def cache_for(library: Library, limits: EngineLimits) -> SequenceCache:
    """Return an empty cache of the kind that the library's functions take."""
    if library.takes_pages:
        return PagedKV(library.metadata["kv_cache"], limits, library.window)
    return TVMKVCache(library, limits)

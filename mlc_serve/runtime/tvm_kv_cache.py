"""TVM's paged KV cache, which libraries for GPUs and those that MLC built create. TVM owns the pages and the
page tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tvm_ffi

from mlc_serve.engine.limits import EngineLimits
from mlc_serve.engine.sequence_pages import SequencePages
from mlc_serve.runtime.library import Library


def _builtin(name: str) -> Any:
    return tvm_ffi.get_global_func(f"vm.builtin.{name}")


class TVMKVCache:
    """Implements runtime.sequence_cache.SequenceCache."""

    can_fork = True
    longest_pop = None
    layout = None  # TVM copies only whole sequences, and none that shares pages with another

    def __init__(self, library: Library, limits: EngineLimits) -> None:
        self.page_size = library.info.page_size
        sizes = (
            limits.max_num_sequence,
            limits.max_total_sequence_length,
            limits.prefill_chunk_size,
            self.page_size,
            0,
        )
        self._handle = library.cache_constructor()(*(tvm_ffi.Shape([size]) for size in sizes))
        self.arguments = (self._handle,)
        self._add = _builtin("kv_state_add_sequence")
        self._fork = _builtin("kv_state_fork_sequence")
        self._remove = _builtin("kv_state_remove_sequence")
        self._pop = _builtin("kv_state_popn")
        self._clear = _builtin("kv_state_clear")
        self._begin = _builtin("kv_state_begin_forward")
        self._end = _builtin("kv_state_end_forward")
        self._free = _builtin("attention_kv_cache_get_num_available_pages")
        self.num_pages = self.num_free_pages

    @property
    def num_free_pages(self) -> int:
        """The number of pages that belong to no sequence."""
        return int(self._free(self._handle))

    def num_pages_of(self, num_tokens: int) -> int:
        """Return the number of pages that `num_tokens` fill, the last one perhaps in part."""
        return -(-num_tokens // self.page_size)

    def num_tokens_in(self, num_pages: int) -> int:
        """Return the number of tokens that fill `num_pages`."""
        return num_pages * self.page_size

    def add_sequence(self, seq_id: int) -> None:
        """Start an empty sequence."""
        self._add(self._handle, seq_id)

    def fork_sequence(self, parent: int, child: int, length: int) -> None:
        """Start `child` with the first `length` tokens of `parent`."""
        self._fork(self._handle, parent, child, length)

    def remove_sequence(self, seq_id: int) -> None:
        """Forget a sequence."""
        self._remove(self._handle, seq_id)

    def pop(self, seq_id: int, num_tokens: int) -> None:
        """Take the last `num_tokens` off a sequence."""
        self._pop(self._handle, seq_id, num_tokens)

    def export_pages(self, seq_id: int, start: int, stop: int) -> SequencePages:
        """Raise RuntimeError: TVM copies only whole sequences."""
        raise RuntimeError(f"the tokens [{start}, {stop}) of sequence {seq_id} can't be copied")

    def import_pages(self, seq_id: int, pages: SequencePages) -> None:
        """Raise RuntimeError: TVM copies only whole sequences."""
        raise RuntimeError(f"nothing can be appended to sequence {seq_id} at {pages.start}")

    def clear(self) -> None:
        """Forget all sequences."""
        self._clear(self._handle)

    def begin_forward(self, seq_ids: Sequence[int], lengths: Sequence[int]) -> None:
        """Reserve room for the tokens of one forward pass.

        There must be enough free pages: if there are not, TVM fails and leaves its state inconsistent.
        """
        self._begin(self._handle, tvm_ffi.Shape(seq_ids), tvm_ffi.Shape(lengths))

    def end_forward(self) -> None:
        """End the forward pass."""
        self._end(self._handle)

    def result_of(self, returned: Any) -> Any:
        """Return the result of a function, which returns the cache too."""
        return returned[0]

"""TVM's recurrent state behind the engine's interface. TVM owns the slots, one for each sequence."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import tvm_ffi

from mlc_serve.engine.limits import EngineLimits
from mlc_serve.engine.sequence_pages import SequencePages
from mlc_serve.runtime.library import Library


def _builtin(name: str) -> Any:
    return tvm_ffi.get_global_func(f"vm.builtin.kv_state_{name}")


class RecurrentState:
    """Implements runtime.sequence_cache.SequenceCache. A sequence takes no pages, whatever its length.

    `longest_pop` tokens can be taken off a sequence, if each was computed by a forward pass of its own: TVM
    keeps the states after the last few passes.
    """

    can_fork = False
    num_pages = 0
    num_free_pages = 0
    layout = None

    def __init__(self, library: Library, limits: EngineLimits) -> None:
        self.page_size = library.info.page_size
        self.longest_pop = limits.max_history_size
        sizes = (limits.max_num_sequence, limits.max_history_size + 1)
        self._handle = library.function("create_rnn_state")(*(tvm_ffi.Shape([size]) for size in sizes))
        self.arguments = (self._handle,)
        self._add = _builtin("add_sequence")
        self._remove = _builtin("remove_sequence")
        self._pop = _builtin("popn")
        self._clear = _builtin("clear")
        self._begin = _builtin("begin_forward")
        self._end = _builtin("end_forward")

    def num_pages_of(self, num_tokens: int) -> int:  # noqa: ARG002 - the interface's
        """Return 0."""
        return 0

    def num_tokens_in(self, num_pages: int) -> int:  # noqa: ARG002 - the interface's
        """Return a number that no sequence reaches."""
        return sys.maxsize

    def add_sequence(self, seq_id: int) -> None:
        """Start an empty sequence."""
        self._add(self._handle, seq_id)

    def fork_sequence(self, parent: int, child: int, length: int) -> None:
        """Raise RuntimeError: the state at `length` is not kept."""
        raise RuntimeError(f"sequence {parent} can't be forked at {length} to {child}")

    def remove_sequence(self, seq_id: int) -> None:
        """Forget a sequence."""
        self._remove(self._handle, seq_id)

    def pop(self, seq_id: int, num_tokens: int) -> None:
        """Take the last `num_tokens` off a sequence."""
        self._pop(self._handle, seq_id, num_tokens)

    def export_pages(self, seq_id: int, start: int, stop: int) -> SequencePages:
        """Raise RuntimeError: a recurrent state has no pages."""
        raise RuntimeError(f"the tokens [{start}, {stop}) of sequence {seq_id} can't be copied")

    def import_pages(self, seq_id: int, pages: SequencePages) -> None:
        """Raise RuntimeError: a recurrent state has no pages."""
        raise RuntimeError(f"nothing can be appended to sequence {seq_id} at {pages.start}")

    def clear(self) -> None:
        """Forget all sequences."""
        self._clear(self._handle)

    def begin_forward(self, seq_ids: Sequence[int], lengths: Sequence[int]) -> None:
        """Begin a forward pass, over the sequences in this order."""
        self._begin(self._handle, tvm_ffi.Shape(seq_ids), tvm_ffi.Shape(lengths))

    def end_forward(self) -> None:
        """End the forward pass. Its states are the newest ones from now on."""
        self._end(self._handle)

    def result_of(self, returned: Any) -> Any:
        """Return the result of a function, which returns its state, too."""
        return returned[0]

"""The KV cache of libraries for the CPU: the memory of its pages, and which sequence has which of them."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tvm
import tvm_ffi

from mlc_serve.config.sliding_window import SlidingWindow
from mlc_serve.engine.limits import EngineLimits
from mlc_serve.engine.sequence_pages import PageLayout, SequencePages
from mlc_serve.runtime.huge_pages import huge_pages
from mlc_serve.runtime.page_list import Ids, PageList
from mlc_serve.runtime.pass_tables import PassTables, TableSizes


class PagedKV:
    """Implements runtime.sequence_cache.SequenceCache. Raises RuntimeError for calls that would corrupt it.

    A page belongs to all sequences that were forked from one with it. Only full pages are shared, so that
    tokens are appended to pages with one owner. If sequences have a window, a pass first gives back the pages
    that none of its tokens sees, so that no other sequence may need them: there are no forks.
    """

    longest_pop = None

    def __init__(
        self, cache: Mapping[str, Any], limits: EngineLimits, window: SlidingWindow | None = None
    ) -> None:
        """`cache` is what the library's metadata says about keys and values."""
        self.page_size = int(cache["page_size"])
        self.can_fork = window is None
        self._window = window
        self._most_pages = _most_pages(window, limits.prefill_chunk_size, self.page_size)
        self.num_pages = self._pages_for(limits.max_total_sequence_length)
        self._tables = PassTables(self._sizes(limits), self.page_size)
        layers = _memory(cache, self.num_pages)
        self._contents = layers.swapaxes(0, 1)
        self.layout = None if window is not None else _layout(cache, self._contents)
        tensors = [tvm.runtime.from_dlpack(layer) for layer in layers]
        self.arguments = (tvm_ffi.convert([*self._tables.tensors, *tensors]),)
        self._sequences: dict[int, PageList] = {}
        self._num_owners = np.zeros(self.num_pages, np.int32)
        self._free: list[int] = []
        self.clear()

    def _sizes(self, limits: EngineLimits) -> TableSizes:
        most_pages = min(self.num_pages, self.num_pages_of(limits.max_single_sequence_length))
        return TableSizes(
            limits.max_num_sequence, limits.prefill_chunk_size, limits.max_num_sequence * most_pages
        )

    @property
    def num_free_pages(self) -> int:
        """The number of pages that belong to no sequence."""
        return len(self._free)

    def num_pages_of(self, num_tokens: int) -> int:
        """Return the number of pages that `num_tokens` fill, the last one perhaps in part, or the most that a
        window needs.
        """
        filled = self._pages_for(num_tokens)
        return filled if self._most_pages is None else min(filled, self._most_pages)

    def num_tokens_in(self, num_pages: int) -> int:
        """Return the number of tokens that fill `num_pages`: any number if a window needs no more."""
        if self._most_pages is not None and num_pages >= self._most_pages:
            return sys.maxsize
        return num_pages * self.page_size

    def _pages_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self.page_size)

    def add_sequence(self, seq_id: int) -> None:
        """Start an empty sequence."""
        _require(seq_id not in self._sequences, f"sequence {seq_id} is in use")
        self._sequences[seq_id] = PageList()

    def fork_sequence(self, parent: int, child: int, length: int) -> None:
        """Start `child` with the first `length` tokens of `parent`, a positive multiple of the page size."""
        source = self._sequences[parent]
        _require(self.can_fork, f"sequence {parent} drops pages, and can't be forked")
        _require(length % self.page_size == 0, f"a fork at {length} is within a page")
        _require(0 < length <= source.num_tokens, f"a fork at {length} is not within sequence {parent}")
        self.add_sequence(child)
        shared = source.ids[: length // self.page_size]
        self._num_owners[shared] += 1
        self._sequences[child].extend(shared)
        self._sequences[child].num_tokens = length

    def remove_sequence(self, seq_id: int) -> None:
        """Forget a sequence."""
        self._disown(self._sequences.pop(seq_id).ids)

    def pop(self, seq_id: int, num_tokens: int) -> None:
        """Take the last `num_tokens` off a sequence, which shares none of them with another."""
        pages = self._sequences[seq_id]
        length = pages.num_held - num_tokens
        _require(length >= 0, f"sequence {seq_id} is shorter than {num_tokens}")
        touched = pages.ids[length // self.page_size :]
        is_shared = bool((self._num_owners[touched] > 1).any())
        _require(not is_shared, f"a pop reaches into pages that sequence {seq_id} shares")
        pages.num_tokens -= num_tokens
        self._disown(pages.truncate(self._pages_for(length)))

    def export_pages(self, seq_id: int, start: int, stop: int) -> SequencePages:
        """Return a copy of the pages with the tokens at positions [start, stop) of a sequence."""
        layout, pages = self._require_layout(), self._sequences[seq_id]
        _require(start < stop <= pages.num_tokens, f"[{start}, {stop}) is not within sequence {seq_id}")
        ids = pages.ids[start // self.page_size : stop // self.page_size]
        copies = np.empty((len(ids), *self._contents.shape[1:]), self._contents.dtype)
        for copy, number in zip(copies, ids, strict=True):
            copy[:] = self._contents[number]
        return SequencePages(layout, start, copies.reshape(-1).view(np.uint8).data)

    def import_pages(self, seq_id: int, pages: SequencePages) -> None:
        """Append pages to a sequence of `pages.start` tokens. There must be enough free ones."""
        own = self._sequences[seq_id]
        _require(pages.layout == self._require_layout(), "the pages are laid out in another way")
        _require(own.num_tokens == pages.start, f"sequence {seq_id} does not end at {pages.start}")
        num_before = len(own)
        own.num_tokens = pages.stop
        self._grow(own)
        values = np.frombuffer(pages.data, self._contents.dtype).reshape(-1, *self._contents.shape[1:])
        for number, value in zip(own.ids[num_before:], values, strict=True):
            self._contents[number] = value

    def _require_layout(self) -> PageLayout:
        if self.layout is None:
            raise RuntimeError("sequences that drop pages can't be copied")
        return self.layout

    def clear(self) -> None:
        """Forget all sequences."""
        self._sequences.clear()
        self._num_owners[:] = 0
        self._free = list(range(self.num_pages - 1, -1, -1))  # page 0 is taken first

    def begin_forward(self, seq_ids: Sequence[int], lengths: Sequence[int]) -> None:
        """Take pages for the tokens of one forward pass, and describe it in the argument's tables. There must
        be enough free pages.
        """
        sequences = [self._sequences[seq_id] for seq_id in seq_ids]
        for pages, length in zip(sequences, lengths, strict=True):
            if self._window is not None:
                self._drop_unseen(pages, self._window)
            pages.num_tokens += length
            if pages.num_held > len(pages) * self.page_size:
                self._grow(pages)
        self._tables.write(sequences, lengths)

    def end_forward(self) -> None:
        """End the forward pass."""

    def result_of(self, returned: Any) -> Any:
        """Return the result of a function, which returns nothing else."""
        return returned

    def _drop_unseen(self, pages: PageList, window: SlidingWindow) -> None:
        """Give back the pages that hold nothing that the next token of a sequence sees."""
        first = window.sink_pages(self.page_size)
        seen = pages.num_held + 1 - window.recent  # the first token that it sees after the sinks
        end = max(seen, 0) // self.page_size
        if end > first:
            pages.num_dropped += (end - first) * self.page_size
            self._disown(pages.drop(first, end))

    def _grow(self, pages: PageList) -> None:
        """Take the pages that a sequence needs for its tokens."""
        missing = self._pages_for(pages.num_held) - len(pages)
        _require(missing <= len(self._free), "the KV cache is full")
        taken = self._free[-missing:][::-1]
        del self._free[-missing:]
        self._num_owners[taken] = 1
        pages.extend(taken)

    def _disown(self, ids: Ids) -> None:
        self._num_owners[ids] -= 1
        self._free += ids[self._num_owners[ids] == 0][::-1].tolist()


def _most_pages(window: SlidingWindow | None, chunk: int, page_size: int) -> int | None:
    return None if window is None else window.most_pages(chunk, page_size)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise RuntimeError(message)


def _layout(cache: Mapping[str, Any], contents: npt.NDArray[Any]) -> PageLayout:
    """The layout of pages with these contents, which follows from what the metadata says."""
    described = json.dumps(["paged_kv", 1, dict(cache), contents.dtype.str], sort_keys=True)
    digest = hashlib.sha256(described.encode()).hexdigest()
    return PageLayout(digest, int(cache["page_size"]), contents.nbytes // len(contents))


def _memory(cache: Mapping[str, Any], num_pages: int) -> npt.NDArray[Any]:
    """The contents of all pages, `[layer, page, ...]`; compiler.kernels.cpu.attention.pages describes a
    layer's.
    """
    page_values = cache["page_size"] * cache["head_dim"]
    shape = (num_pages, cache.get("page_parts", 2), cache["num_key_value_heads"], page_values)
    num_layers, dtype = cache["num_hidden_layers"], np.dtype(cache["dtype"])
    region = huge_pages(num_layers * int(np.prod(shape)) * dtype.itemsize)
    return np.frombuffer(region, dtype).reshape(num_layers, *shape)

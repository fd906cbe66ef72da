"""The KV cache keeps the promises of engine.sequence_state.SequenceState, and its tables describe passes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlc_serve.config.sliding_window import SlidingWindow
from mlc_serve.engine.backend import Backend, SequenceStep
from mlc_serve.engine.limits import EngineLimits
from mlc_serve.engine.sequence_state import SequenceState
from mlc_serve.loaded_model import LoadedModel
from mlc_serve.runtime.paged_kv import PagedKV
from mlc_serve.testing.kv_cache import FakeKVCache


@pytest.fixture
def backend(tiny_model: LoadedModel) -> Backend:
    """The small model with an empty KV cache."""
    tiny_model.backend.state.clear()
    return tiny_model.backend


def used(kv: SequenceState) -> int:
    """Pages that sequences occupy."""
    return kv.num_pages - kv.num_free_pages


def append(backend: Backend, seq_id: int, count: int) -> None:
    """Compute some tokens of a sequence."""
    backend.run([SequenceStep(seq_id, [5] * count)])


def test_the_cache_holds_what_the_limits_say(tiny_model: LoadedModel, backend: Backend) -> None:
    """The KV cache has room for at least as many tokens as the limits say."""
    assert backend.state.num_pages * backend.state.page_size >= tiny_model.limits.max_total_sequence_length
    assert used(backend.state) == 0


def test_a_sequence_occupies_whole_pages(backend: Backend) -> None:
    """A sequence of n tokens occupies ceil(n / 16) pages after each append, and none before the first."""
    backend.state.add_sequence(0)
    assert used(backend.state) == 0
    length = 0
    for count in (1, 14, 1, 1, 15, 33, 100):
        append(backend, 0, count)
        length += count
        assert used(backend.state) == -(-length // 16)


def test_a_fork_shares_whole_pages(backend: Backend) -> None:
    """A fork after whole pages takes no page until it grows, and then its own; removing the parent or the
    fork keeps the pages that the other needs.
    """
    kv = backend.state
    kv.add_sequence(0)
    append(backend, 0, 50)
    for child, length in ((1, 16), (2, 48), (3, 32)):
        kv.fork_sequence(0, child, length)
        assert used(kv) == 4 + child - 1
        append(backend, child, 3)
        assert used(kv) == 4 + child
    kv.remove_sequence(0)
    assert used(kv) == 3 + 3
    append(backend, 2, 14)
    assert used(kv) == 3 + 4
    for child in (2, 1, 3):
        kv.remove_sequence(child)
    assert used(kv) == 0


def test_a_fork_of_a_fork_shares_too(backend: Backend) -> None:
    """In a chain of forks, each costs only the pages that it does not share."""
    kv = backend.state
    kv.add_sequence(0)
    append(backend, 0, 32)
    for child in range(1, 5):
        kv.fork_sequence(child - 1, child, 32 + 16 * (child - 1))
        append(backend, child, 16)
    assert used(kv) == 2 + 4
    kv.remove_sequence(0)
    kv.remove_sequence(2)
    assert used(kv) == 2 + 4
    kv.clear()
    assert used(kv) == 0


def test_a_fork_of_the_whole_parent_leaves_both_free_to_grow(backend: Backend) -> None:
    """Parent and fork both take new pages when they grow. When the parent goes, the fork keeps the shared
    ones.
    """
    kv = backend.state
    kv.add_sequence(0)
    append(backend, 0, 32)
    kv.fork_sequence(0, 1, 32)
    assert used(kv) == 2
    append(backend, 0, 1)
    append(backend, 1, 17)
    assert used(kv) == 2 + 1 + 2
    kv.remove_sequence(0)
    assert used(kv) == 2 + 2


def test_popped_tokens_free_their_pages(backend: Backend) -> None:
    """A sequence whose last tokens were popped occupies as many pages as if it never had them."""
    backend.state.add_sequence(0)
    append(backend, 0, 40)
    backend.state.pop(0, 9)
    assert used(backend.state) == 2
    append(backend, 0, 1)
    assert used(backend.state) == 2


def test_a_removed_id_can_be_used_again(backend: Backend) -> None:
    """An id can be used again after its sequence was removed, and after clear."""
    for _ in range(3):
        backend.state.add_sequence(7)
        append(backend, 7, 5)
        backend.state.remove_sequence(7)
    backend.state.add_sequence(7)
    backend.state.clear()
    backend.state.add_sequence(7)
    assert used(backend.state) == 0
    backend.state.clear()


LIMITS = EngineLimits(
    max_num_sequence=4,
    max_total_sequence_length=300,
    max_single_sequence_length=200,
    prefill_chunk_size=64,
)
CACHE = {
    "page_size": 16,
    "num_hidden_layers": 1,
    "num_key_value_heads": 1,
    "head_dim": 4,
    "dtype": "float32",
}


@dataclass
class Twins:
    """A cache, a memory of tokens that passes write to its slots, and a fake that goes through the same."""

    cache: PagedKV = field(default_factory=lambda: PagedKV(CACHE, LIMITS))
    num_drawn: int = 0

    def __post_init__(self) -> None:
        self.fake = FakeKVCache(self.cache.page_size, self.cache.num_pages)
        self.memory = np.full(self.cache.num_pages * self.cache.page_size, -1)

    def both(self, name: str, *arguments: int) -> None:
        """Call a method of both. Both take it, or both refuse it."""
        outcomes = []
        for kv in (self.cache, self.fake):
            try:
                getattr(kv, name)(*arguments)
                outcomes.append(True)
            except (RuntimeError, KeyError):
                outcomes.append(False)
        assert outcomes[0] == outcomes[1]
        assert self.cache.num_free_pages == self.fake.num_free_pages

    def forward(self, lengths: dict[int, int]) -> None:
        """Append new tokens to sequences, if there is room for them."""
        lengths = {seq_id: length for seq_id, length in lengths.items() if seq_id in self.fake.seq_ids}
        held = {seq_id: self.fake.num_tokens(seq_id) for seq_id in lengths}
        pages = self.cache.num_pages_of
        missing = sum(pages(held[i] + length) - pages(held[i]) for i, length in lengths.items())
        if not lengths or missing > self.cache.num_free_pages:
            return
        if max(held[i] + length for i, length in lengths.items()) > LIMITS.max_single_sequence_length:
            return
        tokens = np.arange(self.num_drawn, self.num_drawn + sum(lengths.values()))
        self.num_drawn += len(tokens)
        row = 0
        for seq_id, length in lengths.items():
            self.fake.append(seq_id, tokens[row : row + length].tolist())
            row += length
        self.cache.begin_forward(list(lengths), list(lengths.values()))
        self._check(lengths, held, tokens)
        self.cache.end_forward()
        assert self.cache.num_free_pages == self.fake.num_free_pages

    def _check(self, lengths: dict[int, int], held: dict[int, int], tokens: Any) -> None:
        count, positions, slots, rows, first, listed, keys = (t.numpy() for t in self.cache.arguments[0][:7])
        assert count.tolist() == [len(lengths)]
        assert rows[: len(lengths) + 1].tolist() == np.cumsum([0, *lengths.values()]).tolist()
        ranges = [range(held[i], held[i] + length) for i, length in lengths.items()]
        assert positions[: len(tokens)].tolist() == [position for part in ranges for position in part]
        self.memory[slots[: len(tokens)]] = tokens
        for b, seq_id in enumerate(lengths):
            pages = self.memory.reshape(-1, 16)[listed[first[b] : first[b + 1]]]
            assert pages.reshape(-1)[: keys[b]].tolist() == self.fake.token_ids(seq_id)


@pytest.mark.parametrize(
    "change", [{"head_dim": 8}, {"dtype": "float16"}, {"num_hidden_layers": 2}, {"page_parts": 1}], ids=str
)
def test_other_caches_have_other_layouts(change: dict[str, Any]) -> None:
    """Equal metadata gives the same layout, whatever the capacity, and other metadata another one."""
    larger = replace(LIMITS, max_total_sequence_length=600)
    layout = PagedKV(CACHE, LIMITS).layout
    assert layout == PagedKV(CACHE, larger).layout
    assert layout is not None
    assert layout.page_bytes == 16 * 4 * 4 * 2
    other = PagedKV(CACHE | change, LIMITS).layout
    assert other is not None
    assert layout.digest != other.digest


def test_pages_that_do_not_fit_are_refused() -> None:
    """Pages from another position, of another layout or more than are free, and those of a window."""
    cache = PagedKV(CACHE, LIMITS)
    cache.add_sequence(0)
    cache.begin_forward([0], [64])
    cache.add_sequence(1)
    with pytest.raises(RuntimeError, match="does not end at 16"):
        cache.import_pages(1, cache.export_pages(0, 16, 32))
    other = PagedKV({**CACHE, "head_dim": 8}, LIMITS)
    other.add_sequence(1)
    with pytest.raises(RuntimeError, match="another way"):
        other.import_pages(1, cache.export_pages(0, 0, 32))
    with pytest.raises(RuntimeError, match="not within"):
        cache.export_pages(0, 48, 80)
    window = PagedKV(CACHE, LIMITS, SlidingWindow(40))
    window.add_sequence(0)
    window.begin_forward([0], [16])
    assert window.layout is None
    with pytest.raises(RuntimeError, match="can't be copied"):
        window.export_pages(0, 0, 16)


ids = st.integers(0, 3)
calls = st.one_of(
    st.tuples(st.just("add_sequence"), ids),
    st.tuples(st.just("fork_sequence"), ids, ids, st.sampled_from([0, 16, 17, 32, 64])),
    st.tuples(st.just("remove_sequence"), ids),
    st.tuples(st.just("pop"), ids, st.sampled_from([1, 5, 16, 40])),
    st.dictionaries(ids, st.sampled_from([1, 1, 1, 15, 16]), min_size=1),
    st.dictionaries(ids, st.just(1), min_size=2),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(calls, max_size=40))
def test_tables_lead_to_what_each_sequence_holds(steps: list[Any]) -> None:
    """Whatever sequences were added, forked, popped and removed, the pages of a sequence have its tokens in
    order, and as many pages are free as in the fake that the scheduler is tested with.
    """
    twins = Twins()
    for seq_id in (0, 1):
        twins.both("add_sequence", seq_id)
        twins.forward({seq_id: 40})
    for step in steps:
        if isinstance(step, dict):
            twins.forward(step)
        else:
            twins.both(*step)
    twins.both("clear")
    assert twins.cache.num_free_pages == twins.cache.num_pages


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from([SlidingWindow(40), SlidingWindow(1), SlidingWindow(57, 20), SlidingWindow(40, 4)]),
    st.lists(st.tuples(st.sampled_from([1, 1, 5, 16, 33, 64]), st.sampled_from([0, 0, 1, 5])), max_size=30),
)
def test_a_windowed_sequence_holds_what_its_tokens_see(
    window: SlidingWindow, passes: list[tuple[int, int]]
) -> None:
    """Its tables lead to the sinks and to all that the tokens of a pass see, at their positions, in no more
    pages than are counted; also if some of the last tokens were popped.
    """
    cache = PagedKV(CACHE, LIMITS, window)
    memory = np.full((cache.num_pages, 16), -1)
    cache.add_sequence(0)
    known = 0
    for count, popped in passes:
        cache.begin_forward([0], [count])
        _, positions, slots, _, first, listed, keys = (t.numpy() for t in cache.arguments[0][:7])
        assert positions[:count].tolist() == list(range(known, known + count))
        memory.reshape(-1)[slots[:count]] = positions[:count]
        held = memory[listed[first[0] : first[1]]].reshape(-1)[: keys[0]].tolist()
        seen = [*range(window.sinks), *range(max(known + 1 - window.recent, window.sinks), known + count)]
        assert [token for token in held if token in seen] == [
            token for token in seen if token < known + count
        ]
        num_dropped = known + count - len(held)
        assert held[-count:] == positions[:count].tolist()
        assert num_dropped % 16 == 0
        known += count
        assert used(cache) <= cache.num_pages_of(known) <= window.most_pages(64, 16)
        cache.pop(0, min(popped, count))
        known -= min(popped, count)
    cache.clear()
    assert used(cache) == 0

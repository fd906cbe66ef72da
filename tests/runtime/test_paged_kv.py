"""TVM's cache keeps the promises of engine.sequence_state.SequenceState."""

from __future__ import annotations

import pytest

from mlc_serve.engine.backend import Backend, SequenceStep
from mlc_serve.engine.sequence_state import SequenceState
from mlc_serve.loaded_model import LoadedModel


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

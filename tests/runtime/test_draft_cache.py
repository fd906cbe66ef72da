"""What a draft model has computed of sequences, and how it follows the model that it drafts for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from mlc_serve.engine.backend import SequenceStep
from mlc_serve.runtime.accompanied_state import AccompaniedState
from mlc_serve.runtime.draft_cache import DraftCache
from mlc_serve.runtime.model_functions import States
from mlc_serve.testing import FakeKVCache, FakeWindowedState

PAGE = 4


class Draft:
    """A draft model's cache of four pages, whose content can be read."""

    def __init__(self, num_pages: int = 4) -> None:
        self.state = FakeKVCache(PAGE, num_pages)
        self.cache = DraftCache(self.state)

    def append(self, seq_id: int, token_ids: Sequence[int]) -> None:
        """Compute tokens."""
        self.state.append(seq_id, token_ids)
        self.cache.appended(seq_id, len(token_ids))

    def started(self, seq_id: int, token_ids: Sequence[int]) -> None:
        """Start a sequence with tokens that are computed."""
        self.cache.add_sequence(seq_id)
        self.append(seq_id, token_ids)


@pytest.mark.parametrize("num_computed", range(10))
@pytest.mark.parametrize("length", [4, 8])
def test_a_fork_has_what_is_computed_of_its_beginning(num_computed: int, length: int) -> None:
    """In whole pages, and nothing if there is none."""
    draft = Draft()
    draft.started(0, range(num_computed))
    draft.cache.fork_sequence(0, 1, length)
    expected = min(num_computed, length) // PAGE * PAGE
    assert draft.cache.length(1) == expected
    assert draft.state.token_ids(1) == list(range(expected))
    draft.append(1, [99])
    assert draft.state.token_ids(0) == list(range(num_computed))


def test_a_state_that_can_not_be_forked_starts_anew() -> None:
    """A child is then computed from its first token on."""
    cache = DraftCache(FakeWindowedState(PAGE, 9, window=8))
    cache.add_sequence(0)
    cache.fork_sequence(0, 1, 4)
    assert cache.length(1) == 0


@pytest.mark.parametrize("length", range(12))
def test_what_the_model_takes_back_is_forgotten(length: int) -> None:
    """A sequence that is as short already, because it lags behind, stays as it is."""
    draft = Draft()
    draft.started(0, range(9))
    draft.cache.truncate(0, length)
    assert draft.state.token_ids(0) == list(range(min(length, 9)))
    assert draft.cache.length(0) == min(length, 9)


def test_room_is_what_the_last_page_and_the_free_ones_hold() -> None:
    """Less the pages that others are going to take."""
    draft = Draft()
    draft.started(0, range(5))
    draft.started(1, range(3))
    assert draft.cache.room(0, 0) == 3 + 4
    assert draft.cache.room(1, 1) == 1
    assert [draft.cache.num_new_pages(0, count) for count in (0, 3, 4, 7, 8)] == [0, 0, 1, 1, 2]
    draft.cache.remove_sequence(1)
    assert draft.cache.room(0, 0) == 3 + 8
    draft.cache.clear()
    assert draft.state.num_free_pages == 4


class Told:
    """A companion that notes what it is told."""

    taps: tuple[int, ...] = ()

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def add_sequence(self, seq_id: int) -> None:
        """See Companion."""
        self.calls.append(("add", seq_id))

    def fork_sequence(self, parent: int, child: int, length: int) -> None:
        """See Companion."""
        self.calls.append(("fork", parent, child, length))

    def truncate(self, seq_id: int, length: int) -> None:
        """See Companion."""
        self.calls.append(("truncate", seq_id, length))

    def remove_sequence(self, seq_id: int) -> None:
        """See Companion."""
        self.calls.append(("remove", seq_id))

    def passed(self, steps: Sequence[SequenceStep], states: States) -> None:
        """See Companion."""
        self.calls.append(("passed", *(step.seq_id for step in steps)))

    def imported(self, seq_id: int, num_tokens: int) -> None:
        """See Companion."""
        self.calls.append(("imported", seq_id, num_tokens))

    def clear(self) -> None:
        """See Companion."""
        self.calls.append(("clear",))


def test_a_companion_is_told_of_all_that_happens() -> None:
    """With the lengths of sequences after it, those of forks, of imports and after drafts included."""
    own, told = FakeKVCache(PAGE, 8), Told()
    state = AccompaniedState(own, told)

    def run(*steps: SequenceStep) -> None:
        for step in steps:
            own.append(step.seq_id, [*step.token_ids, *step.draft_ids])
        num_rows = sum(len(step.token_ids) + len(step.draft_ids) for step in steps)
        state.passed(steps, np.empty((num_rows, 0), np.float32))

    state.add_sequence(0)
    run(SequenceStep(0, range(6)))
    state.fork_sequence(0, 1, 4)
    run(SequenceStep(1, [7], draft_ids=[8, 9]), SequenceStep(0, [7], draft_ids=[8, 9]))
    state.pop(1, 2)
    state.pop(0, 1)
    state.remove_sequence(0)
    state.add_sequence(2)
    state.import_pages(2, state.export_pages(1, 0, 4))
    run(SequenceStep(2, [4], draft_ids=[5]))
    state.pop(2, 1)
    assert own.token_ids(2) == [0, 1, 2, 3, 4]
    assert told.calls == [
        ("add", 0),
        ("passed", 0),
        ("fork", 0, 1, 4),
        ("passed", 1, 0),
        ("truncate", 1, 5),
        ("truncate", 0, 8),
        ("remove", 0),
        ("add", 2),
        ("imported", 2, 4),
        ("passed", 2),
        ("truncate", 2, 5),
    ]
    state.remove_sequence(2)
    assert (state.num_free_pages, state.num_pages) == (own.num_free_pages, 8) == (6, 8)
    assert (state.num_pages_of(9), state.num_tokens_in(2), state.page_size) == (3, 8, PAGE)
    state.clear()
    assert (told.calls[-1], state.num_free_pages) == (("clear",), 8)

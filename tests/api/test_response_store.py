"""The store of responses stays within its bounds, and keeps owners apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_serve.api.response_store import ResponseStore, Turn
from mlc_serve.protocol.responses.items import StoredItem

MIB = 2**20
STEPS = ("add", "continue", "delete", "get")


def turn(name: str, before: Turn | None = None, size: int = 10) -> Turn:
    """A turn with one item that was sent and one of output, whose ids begin with `name`."""
    sent, output = StoredItem(f"{name}-in", b"i" * size), StoredItem(f"{name}-out", b"o")
    return Turn(b"r", [sent], [output], before)


def test_a_conversation_is_the_items_of_its_turns() -> None:
    """Items come in the order in which they were said."""
    last = turn("b", turn("a"))
    assert [item.id for item in last.conversation()] == ["a-in", "a-out", "b-in", "b-out"]


def test_owners_are_kept_apart() -> None:
    """What one owner stores, another can neither read, nor refer to, nor delete."""
    store = ResponseStore(10, MIB)
    stored = turn("a")
    store.add("key 0", "resp_a", stored)
    assert store.get("key 0", "resp_a") is stored
    assert store.item("key 0", "a-out") is not None
    assert store.get("key 1", "resp_a") is None
    assert store.item("key 1", "a-out") is None
    assert not store.delete("key 1", "resp_a")
    assert store.delete("key 0", "resp_a")
    assert store.get("key 0", "resp_a") is None
    assert store.item("key 0", "a-out") is None


def test_the_least_recently_used_makes_room() -> None:
    """A response that was read stays longer than one that wasn't."""
    store = ResponseStore(2, MIB)
    for name in "ab":
        store.add("", name, turn(name))
    store.get("", "a")
    store.add("", "c", turn("c"))
    assert [name for name in "abc" if store.get("", name)] == ["a", "c"]


def test_a_turn_is_kept_and_counted_once_while_one_needs_it() -> None:
    """Two responses that continue the same turn share it, also after it was deleted."""
    store = ResponseStore(10, MIB)
    first = turn("a", size=1000)
    left, right = turn("b", first), turn("c", first)
    for name, stored in (("a", first), ("b", left), ("c", right)):
        store.add("", name, stored)
    assert store.num_bytes == first.num_bytes + left.num_bytes + right.num_bytes
    store.delete("", "a")
    store.delete("", "b")
    assert store.num_bytes == first.num_bytes + right.num_bytes
    store.delete("", "c")
    assert store.num_bytes == 0


def test_an_item_is_known_as_long_as_its_own_response() -> None:
    """A response that refers to an item of another neither keeps it known nor makes it forgotten."""
    store = ResponseStore(10, MIB)
    first = turn("a")
    for name, stored in (
        ("a", first),
        ("b", Turn(b"r", first.output, [])),
        ("c", Turn(b"r", first.output, [])),
    ):
        store.add("", name, stored)
    store.delete("", "b")
    assert store.item("", "a-out") is first.output[0]
    store.delete("", "a")
    assert store.item("", "a-out") is None


def test_what_is_larger_than_the_store_is_not_kept() -> None:
    """A response that does not fit leaves an empty store."""
    store = ResponseStore(10, 4096)
    store.add("", "a", turn("a", size=5000))
    assert (len(store), store.num_bytes) == (0, 0)


@pytest.mark.parametrize(("most", "keeps"), [(0, False), (1, True)])
def test_no_responses_turn_it_off(most: int, keeps: bool) -> None:
    """A store for no responses says so."""
    assert ResponseStore(most, MIB).keeps_any == keeps


@given(
    st.lists(
        st.tuples(st.sampled_from(STEPS), st.integers(0, 9), st.integers(0, 3000)),
        max_size=60,
    )
)
def test_the_bounds_hold_whatever_happens(steps: list[tuple[str, int, int]]) -> None:
    """The count of bytes is that of all turns that can be reached, and no bound is ever exceeded."""
    store = ResponseStore(4, 8000)
    for number, (what, which, size) in enumerate(steps):
        name = str(which)
        if what == "delete":
            store.delete("", name)
        elif what == "get":
            store.get("", name)
        else:
            before = store.get("", name) if what == "continue" else None
            store.add("", f"{number}", turn(f"{number}", before, size))
        reachable: set[Turn] = set()
        for stored in store._turns.values():
            each: Turn | None = stored
            while each is not None:
                reachable.add(each)
                each = each.before
        assert store.num_bytes == sum(each.num_bytes for each in reachable) <= 8000
        assert len(store) <= 4
        assert {key[1] for key in store._items} == {
            item.id for stored in store._turns.values() for item in (*stored.sent, *stored.output)
        }

"""RadixTree, compared with a dict of sequences that is searched one by one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlc_serve.engine.radix_tree import PrefixMatch, RadixTree

PAGE = 2
TOKENS = st.lists(st.integers(0, 1), max_size=12)
NAMESPACES = st.sampled_from(["", "other"])
Operation = tuple[str, int, str, list[int]]
OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["insert", "extend", "remove"]), st.integers(0, 4), NAMESPACES, TOKENS),
    max_size=25,
)
# The namespace and the tokens of each sequence.
Stored = dict[int, tuple[str, list[int]]]


def whole_pages(token_ids: list[int]) -> list[int]:
    """Return the tokens without those that don't fill a page."""
    return token_ids[: len(token_ids) - len(token_ids) % PAGE]


def num_common(one: list[int], other: list[int]) -> int:
    """Return the length of the longest common prefix in whole pages."""
    common = 0
    while (
        one[common : common + PAGE] == other[common : common + PAGE]
        and len(one[common : common + PAGE]) == PAGE
    ):
        common += PAGE
    return common


def apply(tree: RadixTree, stored: Stored, operation: Operation) -> None:
    """Apply a valid change to the tree and to the dict."""
    name, seq_id, namespace, token_ids = operation
    if name == "insert" and seq_id not in stored:
        tree.insert(seq_id, token_ids, namespace)
        stored[seq_id] = namespace, whole_pages(token_ids)
    elif name == "extend" and seq_id in stored:
        tree.extend(seq_id, token_ids)
        own, before = stored[seq_id]
        stored[seq_id] = own, before + whole_pages(token_ids)
    elif name == "remove" and seq_id in stored:
        tree.remove(seq_id)
        del stored[seq_id]


@settings(max_examples=200)
@given(OPERATIONS)
def test_a_sequence_has_the_tokens_it_was_given(operations: list[Operation]) -> None:
    """After any changes, with its namespace."""
    tree, stored = RadixTree(PAGE), Stored()
    for operation in operations:
        apply(tree, stored, operation)
    assert {seq_id: tree.tokens_of(seq_id) for seq_id in stored} == stored


@settings(max_examples=200)
@given(OPERATIONS, st.lists(st.tuples(NAMESPACES, TOKENS), min_size=1, max_size=5))
def test_match_finds_what_a_search_finds(
    operations: list[Operation], queries: list[tuple[str, list[int]]]
) -> None:
    """After any changes the match is as long as the longest in its namespace, and its sequence has these
    tokens.
    """
    tree, stored = RadixTree(PAGE), Stored()
    for operation in operations:
        apply(tree, stored, operation)
        for namespace, query in queries:
            own = [token_ids for name, token_ids in stored.values() if name == namespace]
            best = max((num_common(query, token_ids) for token_ids in own), default=0)
            match = tree.match(query, namespace)
            assert (match.length if match else 0) == best
            if match is not None:
                assert stored[match.seq_id][0] == namespace
                assert stored[match.seq_id][1][: match.length] == query[: match.length]


@settings(max_examples=200)
@given(OPERATIONS)
def test_covered_means_that_another_sequence_begins_the_same(operations: list[Operation]) -> None:
    """`is_covered` returns whether another sequence of the namespace begins with all tokens of this one."""
    tree, stored = RadixTree(PAGE), Stored()
    for operation in operations:
        apply(tree, stored, operation)
    assert len(tree) == len(stored)
    for seq_id, (namespace, token_ids) in stored.items():
        others = [other for other_id, other in stored.items() if other_id != seq_id]
        covered = any((name, ids[: len(token_ids)]) == (namespace, token_ids) for name, ids in others)
        assert tree.is_covered(seq_id) == covered
        assert seq_id in tree


def test_nothing_is_found_in_an_empty_tree() -> None:
    """Nothing is found before the first sequence or after the last one is removed."""
    tree = RadixTree(PAGE)
    assert tree.match([1, 2, 3]) is None
    tree.insert(7, [1, 2, 3])
    assert tree.match([1, 2, 3, 4]) == PrefixMatch(2, 7)
    tree.remove(7)
    assert tree.match([1, 2]) is None
    assert len(tree) == 0


def test_a_page_is_found_as_a_whole_or_not_at_all() -> None:
    """If the common prefix ends within a page, the match ends before that page."""
    tree = RadixTree(4)
    tree.insert(1, range(10))
    assert tree.match(range(7)) == PrefixMatch(4, 1)
    assert tree.match([0, 1, 2, 9]) is None


def test_a_sequence_is_inserted_once() -> None:
    """A second insertion under the same id is refused."""
    tree = RadixTree(PAGE)
    tree.insert(1, [1, 2])
    with pytest.raises(ValueError, match="sequence 1"):
        tree.insert(1, [3, 4])


def test_clear_forgets_all() -> None:
    """After clear, ids may be inserted again and nothing is found."""
    tree = RadixTree(PAGE)
    tree.insert(1, [1, 2])
    tree.clear()
    assert tree.match([1, 2]) is None
    tree.insert(1, [3, 4])
    assert tree.match([3, 4]) == PrefixMatch(2, 1)

"""A radix tree over sequences of token ids: which sequence has the longest beginning in common with some
tokens.

A pure structure, in whole pages: an edge is a run of pages, and what does not fill a page is left out. Each
sequence begins with a page that names its namespace, so that only sequences of one namespace share anything.
Knows neither KV cache nor which sequences are worth keeping.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

# Tokens, or the name of a namespace.
Page = tuple[int, ...] | tuple[str]


@dataclass(frozen=True)
class PrefixMatch:
    """The first `length` tokens, a positive multiple of the page size, are the first ones of `seq_id` too."""

    length: int
    seq_id: int


@dataclass(eq=False)
class _Node:
    """The pages between a parent and a place where sequences part or end.

    Each node but the root has a sequence that ends in it or at least two children. `seq_ids` keeps insertion
    order.
    """

    edge: list[Page]
    parent: _Node | None
    children: dict[Page, _Node] = field(default_factory=dict)
    seq_ids: dict[int, None] = field(default_factory=dict)


class RadixTree:
    """Sequences by their tokens. A sequence is known by its id and ends somewhere in the tree."""

    def __init__(self, page_size: int) -> None:
        self._page_size = page_size
        self._root = _Node([], None)
        self._ends: dict[int, _Node] = {}

    def __contains__(self, seq_id: int) -> bool:
        return seq_id in self._ends

    def __len__(self) -> int:
        return len(self._ends)

    def match(self, token_ids: Sequence[int], namespace: str = "") -> PrefixMatch | None:
        """The longest common beginning of `token_ids` and a sequence of the namespace, if it fills a page."""
        node, num_pages = self._root, 0
        pages: list[Page] = [(namespace,), *self._pages(token_ids)]
        while num_pages < len(pages):
            child = node.children.get(pages[num_pages])
            if child is None:
                break
            common = _num_common(child.edge, pages, num_pages)
            node, num_pages = child, num_pages + common
            if common < len(child.edge):
                break
        length = (num_pages - 1) * self._page_size
        return PrefixMatch(length, _any_below(node)) if length > 0 else None

    def insert(self, seq_id: int, token_ids: Sequence[int], namespace: str = "") -> None:
        """Store a sequence that isn't stored, up to its last whole page."""
        if seq_id in self._ends:
            raise ValueError(f"sequence {seq_id} is in the tree")
        self._end_at(self._descend(self._root, [(namespace,), *self._pages(token_ids)]), seq_id)

    def extend(self, seq_id: int, token_ids: Sequence[int]) -> None:
        """Store that whole pages follow the stored ones of a sequence."""
        node, pages = self._ends[seq_id], [*self._pages(token_ids)]
        if node.parent is not None and not node.children and len(node.seq_ids) == 1:
            node.edge.extend(pages)
            return
        del node.seq_ids[seq_id]
        self._end_at(self._descend(node, pages), seq_id)
        self._tidy(node)

    def remove(self, seq_id: int) -> None:
        """Forget a sequence."""
        node = self._ends.pop(seq_id)
        del node.seq_ids[seq_id]
        self._tidy(node)

    def is_covered(self, seq_id: int) -> bool:
        """Whether another sequence has all stored tokens of this one."""
        node = self._ends[seq_id]
        return len(node.seq_ids) > 1 or bool(node.children)

    def clear(self) -> None:
        """Forget all sequences."""
        self._root = _Node([], None)
        self._ends.clear()

    def _pages(self, token_ids: Sequence[int]) -> Iterator[Page]:
        size = self._page_size
        for start in range(0, len(token_ids) - size + 1, size):
            yield tuple(token_ids[start : start + size])

    def _end_at(self, node: _Node, seq_id: int) -> None:
        node.seq_ids[seq_id] = None
        self._ends[seq_id] = node

    def _descend(self, node: _Node, pages: list[Page]) -> _Node:
        """The node at which `pages`, followed from `node`, end; made where it is missing."""
        done = 0
        while done < len(pages):
            child = node.children.get(pages[done])
            if child is None:
                child = node.children[pages[done]] = _Node(pages[done:], node)
                return child
            common = _num_common(child.edge, pages, done)
            node, done = _split(node, child, common), done + common
        return node

    def _tidy(self, node: _Node) -> None:
        """Restore the invariant where a sequence no longer ends."""
        parent = node.parent
        if parent is None or node.seq_ids:
            return
        if not node.children:
            del parent.children[node.edge[0]]
            self._tidy(parent)
        elif len(node.children) == 1:
            self._absorb_child(node)

    def _absorb_child(self, node: _Node) -> None:
        (child,) = node.children.values()
        node.edge += child.edge
        node.children = child.children
        for grandchild in node.children.values():
            grandchild.parent = node
        for seq_id in child.seq_ids:
            self._end_at(node, seq_id)


def _num_common(edge: list[Page], pages: list[Page], start: int) -> int:
    """How many pages of an edge are found in `pages` from `start` on."""
    stop = min(len(edge), len(pages) - start)
    return next((i for i in range(stop) if edge[i] != pages[start + i]), stop)


def _split(parent: _Node, node: _Node, num_pages: int) -> _Node:
    """What ends after the first `num_pages` of a child's edge: the child, or a new node above it."""
    if num_pages == len(node.edge):
        return node
    upper = _Node(node.edge[:num_pages], parent)
    parent.children[upper.edge[0]] = upper
    node.edge, node.parent = node.edge[num_pages:], upper
    upper.children[node.edge[0]] = node
    return upper


def _any_below(node: _Node) -> int:
    """The newest sequence that ends in the nearest node that has one, down the first branches."""
    while not node.seq_ids:
        node = next(iter(node.children.values()))
    return next(reversed(node.seq_ids))

"""A radix tree over sequences of token ids, which finds the sequence with the longest prefix of given tokens.

It works in whole pages: an edge is a run of pages, and tokens that don't fill a page are left out. Each
sequence begins with a page that names its namespace, so that only sequences of one namespace share nodes.
The tree knows nothing about the KV cache, and does not decide which sequences are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

# The tokens of a page, or the name of a namespace.
Page = tuple[int, ...] | tuple[str]


@dataclass(frozen=True)
class PrefixMatch:
    """The first `length` tokens are also the first tokens of sequence `seq_id`.

    `length` is a positive multiple of the page size.
    """

    length: int
    seq_id: int


@dataclass(eq=False)
class _Node:
    """A place where sequences branch or end, and the pages (`edge`) that lead to it from its parent.

    In each node except the root a sequence ends, or the node has at least two children. `seq_ids` are the
    sequences that end here, in order of insertion.
    """

    edge: list[Page]
    parent: _Node | None
    children: dict[Page, _Node] = field(default_factory=dict)
    seq_ids: dict[int, None] = field(default_factory=dict)


class RadixTree:
    """Stores sequences by their tokens. Each sequence has an id and ends in one node of the tree."""

    def __init__(self, page_size: int) -> None:
        self._page_size = page_size
        self._root = _Node([], None)
        self._ends: dict[int, _Node] = {}

    def __contains__(self, seq_id: int) -> bool:
        return seq_id in self._ends

    def __len__(self) -> int:
        return len(self._ends)

    def match(self, token_ids: Sequence[int], namespace: str = "") -> PrefixMatch | None:
        """Return the longest common prefix of `token_ids` and a sequence of the namespace, or None if it is
        shorter than a page.
        """
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
        """Store a new sequence up to its last whole page. Raises ValueError if the id is stored already."""
        if seq_id in self._ends:
            raise ValueError(f"sequence {seq_id} is already in the tree")
        self._end_at(self._descend(self._root, [(namespace,), *self._pages(token_ids)]), seq_id)

    def extend(self, seq_id: int, token_ids: Sequence[int]) -> None:
        """Append whole pages to a stored sequence."""
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

    def tokens_of(self, seq_id: int) -> tuple[str, list[int]]:
        """Return the namespace of a sequence and its stored tokens."""
        edges: list[list[Page]] = []
        node: _Node | None = self._ends[seq_id]
        while node is not None:
            edges.append(node.edge)
            node = node.parent
        (name,), *pages = (page for edge in reversed(edges) for page in edge)
        return str(name), [int(token_id) for page in pages for token_id in page]

    def is_covered(self, seq_id: int) -> bool:
        """Return whether another sequence begins with all stored tokens of this one."""
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
        """Return the node where `pages` end when followed from `node`; missing nodes are made."""
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
        """Restore the invariant of a node in which a sequence no longer ends."""
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
    """Return how many pages at the beginning of an edge equal those of `pages` from `start` on."""
    stop = min(len(edge), len(pages) - start)
    return next((i for i in range(stop) if edge[i] != pages[start + i]), stop)


def _split(parent: _Node, node: _Node, num_pages: int) -> _Node:
    """Return the node after the first `num_pages` of a child's edge: the child, or a new node above it."""
    if num_pages == len(node.edge):
        return node
    upper = _Node(node.edge[:num_pages], parent)
    parent.children[upper.edge[0]] = upper
    node.edge, node.parent = node.edge[num_pages:], upper
    upper.children[node.edge[0]] = node
    return upper


def _any_below(node: _Node) -> int:
    """Return a sequence that passes through a node: follow first children to a node where sequences end, and
    take the newest of these.
    """
    while not node.seq_ids:
        node = next(iter(node.children.values()))
    return next(reversed(node.seq_ids))

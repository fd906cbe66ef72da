"""A store of prefixes in memory."""

from __future__ import annotations

from mlc_serve.engine.prefix_store import Export, Prefix
from mlc_serve.engine.sequence_pages import SequencePages

# The namespace, and all tokens up to the end of a page.
_Key = tuple[str, tuple[int, ...]]


class FakePrefixStore:
    """Implements engine.prefix_store.PrefixStore. It takes up to `room` pages at a time, any number if that
    is None, and keeps all of them.
    """

    def __init__(self, page_size: int, room: int | None = None) -> None:
        self.room = room
        self._page_size = page_size
        self._pages: dict[_Key, SequencePages] = {}

    def offer(self, prefix: Prefix, export: Export, start: int, *, is_last: bool) -> int:  # noqa: ARG002 - the interface's
        """See PrefixStore."""
        stops = [stop for stop in self._stops(prefix) if stop > start]
        missing = [stop for stop in stops if self._key(prefix, stop) not in self._pages]
        for stop in missing[: self.room]:
            self._pages[self._key(prefix, stop)] = export(stop - self._page_size, stop)
        if self.room is None or len(missing) <= self.room:
            return stops[-1] if stops else start
        return missing[self.room] - self._page_size

    def clear(self) -> None:
        """See PrefixStore."""
        self._pages.clear()

    def length(self, prefix: Prefix) -> int:
        """Return how many tokens of a prefix are stored, in whole pages from the first one on."""
        stops = self._stops(prefix)
        missing = (stop for stop in stops if self._key(prefix, stop) not in self._pages)
        return next(missing, len(stops) * self._page_size + self._page_size) - self._page_size

    def read(self, prefix: Prefix, start: int, stop: int) -> SequencePages:
        """Return stored pages."""
        ends = range(start + self._page_size, stop + 1, self._page_size)
        found = [self._pages[self._key(prefix, end)] for end in ends]
        return SequencePages(found[0].layout, start, b"".join(bytes(pages.data) for pages in found))

    def _stops(self, prefix: Prefix) -> range:
        return range(self._page_size, len(prefix.token_ids) + 1, self._page_size)

    @staticmethod
    def _key(prefix: Prefix, stop: int) -> _Key:
        return prefix.namespace, tuple(prefix.token_ids[:stop])

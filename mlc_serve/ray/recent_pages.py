"""RecentPages: the pages of the prompts that a replica has answered, which it has probably cached."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

# They are sent to every request router, so that there must not be many. These are 32 KiB.
_MOST_PAGES = 2048


class RecentPages:
    """At most `max_pages` pages, of which those that were answered least recently are forgotten first.

    Used on the event loop only.
    """

    def __init__(self, max_pages: int = _MOST_PAGES) -> None:
        self._max_pages = max_pages
        self._pages: OrderedDict[bytes, None] = OrderedDict()

    def record(self, pages: Sequence[bytes]) -> None:
        """Note that a prompt with these pages has been answered. Its last pages count as the oldest, because
        they are of no use without those before them.
        """
        for page in reversed(pages):
            self._pages[page] = None
            self._pages.move_to_end(page)
        while len(self._pages) > self._max_pages:
            self._pages.popitem(last=False)

    def newest_first(self) -> list[bytes]:
        """Return the pages."""
        return list(reversed(self._pages))

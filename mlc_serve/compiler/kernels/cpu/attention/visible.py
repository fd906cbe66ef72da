"""Which keys of its sequence a token sees."""

from __future__ import annotations

from typing import Any, NamedTuple

from tvm import tirx


class Visible(NamedTuple):
    """A token sees all keys up to its own; with a `window`, only the last so many of them.

    The first `anchors` keys of a sequence are seen by all. They are scored by a second copy of the queries,
    heads after the first copy, which is turned as if the window came right after the anchors. A token's own
    key counts as one of the window.
    """

    window: int | None = None
    anchors: int = 0

    @property
    def copies(self) -> int:
        """How many copies of the queries there are."""
        return 2 if self.anchors else 1

    def start(self, end: Any) -> Any:
        """The first key that is seen through the window by the token whose own key comes before `end`."""
        if self.window is None:
            return tirx.const(0, "int32")
        if not self.anchors:
            return tirx.max(end - self.window, 0)
        return tirx.min(tirx.max(end - self.window, self.anchors), end - 1)

    def num_anchors(self, end: Any) -> Any:
        """How many anchors that token sees."""
        return tirx.min(self.anchors, end - 1)

"""JSON that differs in one text alone: rendered once, cut where the text stands, and put together again."""

from __future__ import annotations

from collections.abc import Callable
from json.encoder import encode_basestring as _quoted

# Private use characters are in no name or id, so that nothing else of a reply holds this text.
_MARK = "\ue000text\ue000"


class TextFrame:
    """What stands around the text. `render` gives JSON, perhaps with something around it, in which its
    argument occurs once.
    """

    def __init__(self, render: Callable[[str], str]) -> None:
        self._before, self._behind = render(_MARK).split(_quoted(_MARK))

    def around(self, text: str) -> str:
        """What `render` would give for another text."""
        return self._before + _quoted(text) + self._behind

"""Writes JSON documents that differ only in one text: renders one of them, and reuses it for other texts."""

from __future__ import annotations

from collections.abc import Callable
from json.encoder import encode_basestring as _quoted

# No name or id contains private-use characters, so that this text occurs nowhere else in a reply.
_MARK = "\ue000text\ue000"


class TextFrame:
    """The parts of a document before and behind the text. `render` returns JSON, perhaps with other text
    around it, that contains its argument exactly once.
    """

    def __init__(self, render: Callable[[str], str]) -> None:
        self._before, self._behind = render(_MARK).split(_quoted(_MARK))

    def around(self, text: str) -> str:
        """Return what `render` would return for this text."""
        return self._before + _quoted(text) + self._behind

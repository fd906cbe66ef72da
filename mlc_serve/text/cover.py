"""Keeps what a client writes from becoming control tokens: a message with `<|im_end|>` in it ends no turn.

A character that occurs nowhere in the conversation is put inside each such text before the chat template sees
it; the prompt is cut there afterwards, so that no piece holds the whole of it, and every piece is tokenized
alone. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from typing import Any

# The private use area of Unicode: characters that mean nothing. No prompt that fits a model uses all of them.
_MEANINGLESS = range(0xE000, 0xF900)


class Cover:
    """Made for one conversation, `written`: nested dicts and lists of what a client has sent."""

    def __init__(self, special_texts: Collection[str], written: Any) -> None:
        everything = "\n".join(_texts_of(written))
        self._special = re.compile("|".join(map(re.escape, sorted(special_texts, key=len, reverse=True))))
        self._is_needed = bool(special_texts) and self._special.search(everything) is not None
        free = (chr(code) for code in _MEANINGLESS if chr(code) not in everything)
        self._mark = next(free, "\ufffd")

    def over(self, written: Any) -> Any:
        """The same, with every special token's text made harmless."""
        return _map_texts(written, self._cover) if self._is_needed else written

    def cut(self, prompt: str) -> list[str]:
        """The pieces of a prompt made from covered texts; joined, they are the prompt without the cover."""
        return prompt.split(self._mark) if self._is_needed else [prompt]

    def _cover(self, text: str) -> str:
        return self._special.sub(lambda found: found[0][:1] + self._mark + found[0][1:], text)


def _texts_of(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.items():
            yield from _texts_of(list(item))
    elif isinstance(value, list):
        for item in value:
            yield from _texts_of(item)


def _map_texts(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {_map_texts(key, change): _map_texts(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [_map_texts(item, change) for item in value]
    return value

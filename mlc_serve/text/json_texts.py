"""Reads and changes the texts in a client's JSON: the keys and values of nested dicts and lists."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

# Returns a text's new form, given the key that it stands under (None for a key itself) and the text.
Change = Callable[[str | None, str], str]


def texts_of(value: Any) -> Iterator[str]:
    """Yield every text, including keys."""
    waiting = [value]
    for part in waiting:
        if isinstance(part, str):
            yield part
        elif isinstance(part, dict):
            waiting.extend(part)
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)


def keys_of(value: Any) -> Iterator[str]:
    """Yield every key of every dict, as often as it occurs."""
    waiting = [value]
    for part in waiting:
        if isinstance(part, dict):
            yield from part
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)


def map_texts(value: Any, change: Change, key: str = "") -> Any:
    """Return a copy in which each text, including keys, is changed. `key` is the key of `value`."""
    if isinstance(value, str):
        return change(key, value)
    if isinstance(value, dict):
        return {change(None, name): map_texts(item, change, name) for name, item in value.items()}
    if isinstance(value, list):
        return [map_texts(item, change, key) for item in value]
    return value

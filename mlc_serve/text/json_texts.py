"""The texts within JSON of a client: nested dicts and lists, their keys and values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

# A text's new form, from the key that leads to it (None for a key itself) and the text.
Change = Callable[[str | None, str], str]


def texts_of(value: Any) -> Iterator[str]:
    """Every text, keys among them."""
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
    """Every key of every dict, as often as it is there."""
    waiting = [value]
    for part in waiting:
        if isinstance(part, dict):
            yield from part
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)


def map_texts(value: Any, change: Change, key: str = "") -> Any:
    """The same, with each text changed, keys among them. `key` leads to the value."""
    if isinstance(value, str):
        return change(key, value)
    if isinstance(value, dict):
        return {change(None, name): map_texts(item, change, name) for name, item in value.items()}
    if isinstance(value, list):
        return [map_texts(item, change, key) for item in value]
    return value

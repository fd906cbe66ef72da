"""Counts the steps that the rendering of a template may still take.

A step is about a microsecond of work, or 64 bytes: an iteration of a loop, a call, an element of a list, 64
letters that are copied or read. So one number bounds a template's time and memory.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, KeysView, Sequence, ValuesView
from typing import Any, ClassVar, TypeVar

from jinja2 import TemplateRuntimeError
from jinja2.runtime import Undefined

T = TypeVar("T")

# The bytes that an element of a list or a dict takes: the reference to it, and a small object.
ELEMENT = 64
# The bytes that one step stands for.
_STEP = 64
_STEPS_PER_TEXT = 16
# The most bits of a number that a template may compute with. Python can't write longer numbers anyway.
_MAX_BITS = 1 << 14

_SIZED = frozenset({dict, list, tuple})
_CONTAINERS = (list, tuple, KeysView, ValuesView, ItemsView)


class Meter:
    """The steps that are left. Any thread may cancel it; only the thread that renders may do anything else.

    Raises TemplateRuntimeError when no steps are left.
    """

    LIMIT: ClassVar[int] = 2_000_000

    def __init__(self, limit: int | None = None) -> None:
        self._limit = self._left = self.LIMIT if limit is None else limit
        self._is_cancelled = False

    def grant(self, texts: Sequence[str]) -> None:
        """Add steps for a client's texts, since a long conversation takes more of them."""
        steps = _STEPS_PER_TEXT * len(texts) + sum(map(len, texts)) // 4
        self._limit += steps
        self._left += steps

    @property
    def is_spent(self) -> bool:
        """Whether more steps were needed than there were."""
        return self._left < 0

    def cancel(self) -> None:
        """End the rendering at its next step."""
        self._is_cancelled = True

    def spend(self, steps: int = 1) -> None:
        """Spend some steps."""
        self._left -= steps
        if self._left < 0 or self._is_cancelled:
            self._stop()

    def build(self, size: int) -> None:
        """Spend the steps for something of `size` bytes, before it is made."""
        self.spend(1 + size // _STEP)

    def weigh(self, value: Any) -> int:
        """Return the size of a whole value in bytes, and spend the steps for walking over it. A part that
        occurs in several places counts each time.
        """
        if type(value) is str:
            return text_size(value)
        room = max(self._left, 0) * _STEP
        total = 0
        waiting = [value]
        for part in waiting:
            kind = type(part)
            total += len(part) if kind is str and part.isascii() else _own_size(part)
            if total > room:
                self._stop()
            if kind is dict:
                waiting += part
                waiting += part.values()
            elif kind is not str and isinstance(part, _CONTAINERS):
                waiting += part
        self.spend(total // _STEP)
        return total

    def check_number(self, bits: int) -> None:
        """Raise if a number of this many bits is too long."""
        if bits > _MAX_BITS:
            raise TemplateRuntimeError("it computes with numbers that are too long")

    def counted(self, values: Iterable[T], steps: int = 1) -> Iterator[T]:
        """Yield the values, and spend `steps` for each."""
        for value in values:
            self.spend(steps)
            yield value

    def _stop(self) -> None:
        if self._is_cancelled:
            raise TemplateRuntimeError("it was cancelled")
        self._left = -1
        raise TemplateRuntimeError(f"it is not done after {self._limit} steps")


def text_size(text: str) -> int:
    """Return the most bytes that a text can take."""
    return len(text) if text.isascii() else 4 * len(text)


def settled(meter: Meter, value: Any) -> Any:
    """Return the value with a known length: an iterator becomes a list."""
    return list(meter.counted(value)) if hasattr(type(value), "__next__") else value


def _own_size(value: Any) -> int:
    """Return the bytes of a value without its parts."""
    kind = type(value)
    if kind is str:
        return text_size(value)
    if kind in _SIZED:
        return ELEMENT * len(value)
    if kind is int:
        return 8 + int(value).bit_length() // 8
    if isinstance(value, (dict, str, bytes, range, *_CONTAINERS)):
        return ELEMENT * len(value)
    return 0 if isinstance(value, Undefined) else ELEMENT

"""A row of a buffer, wherever the buffer has it."""

from __future__ import annotations

from typing import Any, NamedTuple


class Row(NamedTuple):
    """The innermost row of a buffer at some place."""

    buffer: Any
    place: tuple[Any, ...]

    def at(self, i: Any) -> Any:
        """Value `i` of the row."""
        indices = self.indices(i)
        return self.buffer[indices]

    def indices(self, i: Any) -> tuple[Any, ...]:
        """The place of value `i` in the buffer."""
        return (*self.place, i)

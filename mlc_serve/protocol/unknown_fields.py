"""The unknown fields of one request, for servers that ignore them rather than refuse them."""

from __future__ import annotations

# Further names are ignored without being reported, since a client that sends so many won't read the report.
MAX_NAMES = 16


class UnknownFields:
    """Records unknown fields while a request is validated, as the context of the validation."""

    def __init__(self) -> None:
        self._names: dict[str, None] = {}

    def add(self, place: str, name: str) -> None:
        """Record a field of the part of a request that is at `place`; "" is the request itself."""
        if len(self._names) < MAX_NAMES:
            self._names[f"{place}.{name}" if place else name] = None

    @property
    def names(self) -> tuple[str, ...]:
        """The first MAX_NAMES distinct names, such as `messages.mood`, without positions in lists."""
        return tuple(self._names)

"""The fields of one request that no type declares, if they are to be ignored rather than refused."""

from __future__ import annotations

# Names beyond these are ignored without being told of: a client that sends more does not read them.
MAX_NAMES = 16


class UnknownFields:
    """Takes note of them while a request is validated, as the context of the validation."""

    def __init__(self) -> None:
        self._names: dict[str, None] = {}

    def add(self, place: str, name: str) -> None:
        """Take note of a field of the part of a request that is called `place`, or of the request itself."""
        if len(self._names) < MAX_NAMES:
            self._names[f"{place}.{name}" if place else name] = None

    @property
    def names(self) -> tuple[str, ...]:
        """The first different ones, in their order, such as `messages.mood`: without positions in lists."""
        return tuple(self._names)

"""Reads the keys of a quantization_config, and refuses by name what is not supported."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlc_serve.errors import CheckpointError

_SHOWN_CHARACTERS = 100


@dataclass(frozen=True)
class Settings:
    """An object of a configuration. `place` is the file and the keys that lead to it, for messages."""

    place: str
    values: Mapping[str, Any]

    @classmethod
    def of(cls, place: str, values: Any) -> Settings:
        """The settings, if the configuration has an object there. Raises CheckpointError."""
        if not isinstance(values, dict):
            raise CheckpointError(f"{place} is {_shown(values)}, but must be an object")
        return cls(place, values)

    def check_keys(self, *known: Iterable[str]) -> None:
        """Raise CheckpointError for a key that is none of the known ones."""
        for key in self.values:
            if not any(key in keys for keys in known):
                raise CheckpointError(f"{self.place}.{reprlib.repr(key)[1:-1]} is not supported")

    def one_of(self, key: str, supported: Sequence[Any], default: Any = None) -> Any:
        """A value that must be a supported one. Raises CheckpointError."""
        value = self.values.get(key, default)
        if not any(type(value) is type(other) and value == other for other in supported):
            shown = ", ".join(map(str, supported))
            raise self.error(key, f"which is not supported; supported: {shown}")
        return value

    def absent(self, *keys: str) -> None:
        """Raise CheckpointError for a key whose value is more than null, false or empty."""
        for key in keys:
            if self.values.get(key):
                raise self.error(key, "which is not supported")

    def group_size(self, key: str, default: int) -> int | None:
        """How many weights of a row have one scale; None for whole rows, which are also written as -1."""
        size = self.values.get(key, default)
        if size is None or (type(size) is int and size == -1):
            return None
        if type(size) is not int or not 0 < size < 1 << 31:
            raise self.error(key, "but must be a number of weights, or -1")
        return size

    def block_size(self, key: str) -> tuple[int, int] | None:
        """The rows and columns of a block with one scale; None if there is no such key."""
        size = self.values.get(key)
        if size is None:
            return None
        are_sizes = isinstance(size, list | tuple) and all(type(n) is int and 0 < n < 1 << 31 for n in size)
        if not are_sizes or len(size) != 2:
            raise self.error(key, "but must be two numbers of weights")
        return size[0], size[1]

    def error(self, key: str, fault: str) -> CheckpointError:
        """An error about one key, with its value."""
        return CheckpointError(f"{self.place}.{key} is {_shown(self.values.get(key))}, {fault}")


def _shown(value: Any) -> str:
    """A value on one short line. reprlib bounds each object, but not how many objects contain one another."""
    text = reprlib.repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."

"""Finds files that the index of a model directory names."""

from __future__ import annotations

import reprlib
from pathlib import Path, PurePath

from mlc_serve.errors import CheckpointError


def named_file(index: Path, key: str, name: str) -> Path:
    """The file with this name in the directory of `index`, or in one below it. `key` is the key under which
    the index names it.

    Raises CheckpointError if the name leads elsewhere or can't be a file's, or if there is no such file.
    """
    parts, shown = PurePath(name), name if name.isprintable() and len(name) < 100 else reprlib.repr(name)
    if parts.is_absolute() or ".." in parts.parts:
        raise CheckpointError(f"{index}: {key}: {shown} is outside of the directory")
    try:
        exists = (index.parent / name).is_file()
    except (OSError, ValueError) as error:  # too long, or with a zero byte in it
        raise CheckpointError(f"{index}: {key}: {shown} can't be the name of a file") from error
    if not exists:
        raise CheckpointError(f"{index.parent}: there is no {shown}, which {index.name} names")
    return index.parent / name

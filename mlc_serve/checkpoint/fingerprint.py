"""Hashes for a set of files, cheap enough to take at every start."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

# Of each file of weights, so many pieces of so many bytes are read, spread evenly over the file.
_NUM_PIECES = 16
_PIECE_BYTES = 4096


def fingerprint_of(documents: Iterable[Path], weights: Iterable[Path]) -> str:
    """SHA-256 of the files' names, of the content of documents, and of the size and the modification time
    of weights, which are too large to be read at every start.
    """
    return _digest(
        [*_documents(documents), *(_weights(path, path.stat().st_mtime_ns) for path in sorted(weights))]
    )


def portable_fingerprint_of(documents: Iterable[Path], weights: Iterable[Path]) -> str:
    """SHA-256 of the files' names, of the content of documents, and of the size and some pieces of weights.

    It is the same wherever and whenever the files were copied to a machine. Weights that differ in nothing
    but bytes that are not read have the same one.
    """
    return _digest([*_documents(documents), *(_weights(path, _sample(path)) for path in sorted(weights))])


def _digest(described: Sequence[Sequence[str | int]]) -> str:
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()


def _documents(paths: Iterable[Path]) -> Iterator[Sequence[str]]:
    for path in sorted(paths):
        yield ["document", path.name, hashlib.sha256(path.read_bytes()).hexdigest()]


def _weights(path: Path, version: int | str) -> Sequence[str | int]:
    return ["weights", path.name, path.stat().st_size, version]


def _sample(path: Path) -> str:
    """Return a hash of pieces of a file, the first and the last bytes included."""
    sampled, last = hashlib.sha256(), max(path.stat().st_size - _PIECE_BYTES, 0)
    with path.open("rb") as file:
        for number in range(_NUM_PIECES):
            file.seek(last * number // (_NUM_PIECES - 1))
            sampled.update(file.read(_PIECE_BYTES))
    return sampled.hexdigest()

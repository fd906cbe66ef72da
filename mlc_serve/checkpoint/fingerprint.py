"""Hashes for sets of files, cheap enough to take at every start."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

# Bytes of each part of a file of weights that is read, and how many parts there are.
_SAMPLE, _NUM_SAMPLES = 1 << 16, 16


def fingerprint_of(documents: Iterable[Path], weights: Iterable[Path]) -> str:
    """SHA-256 of the files' names, of the content of documents, and of the size and the modification time
    of weights, which are too large to be read at every start.
    """
    described = [
        *(
            ["document", path.name, hashlib.sha256(path.read_bytes()).hexdigest()]
            for path in sorted(documents)
        ),
        *(["weights", path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in sorted(weights)),
    ]
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()


def sampled_digest(weights: Iterable[Path]) -> str:
    """SHA-256 of the sizes of files, and of parts that are spread evenly over each. It does not depend on the
    names, places and times of the files.
    """
    digests = sorted(_sampled(path) for path in weights)
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()


def _sampled(path: Path) -> str:
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for number in range(_NUM_SAMPLES):
            file.seek(max(size - _SAMPLE, 0) * number // (_NUM_SAMPLES - 1))
            digest.update(file.read(_SAMPLE))
    return digest.hexdigest()

"""One hash for a set of files, cheap enough to take at every start."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path


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

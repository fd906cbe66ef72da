"""Writes tensors as MLC keeps them: binary shards of some 32 MB, and the cache of records that names them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlc_serve.checkpoint.raw_shards import CACHE_NAMES

SHARD_BYTES = 32 << 20


class ShardWriter:
    """Fills a directory with tensors, one after the other; `close` writes the cache of records."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._shards: list[dict[str, Any]] = []
        self._records: list[dict[str, Any]] = []
        self._content = bytearray()

    def add(self, name: str, tensor: NDArray[Any]) -> None:
        """Append a tensor; in a new shard if it does not fit into the last one."""
        if self._content and len(self._content) + tensor.nbytes > SHARD_BYTES:
            self._write_shard()
        self._records.append(
            {
                "name": name,
                "shape": list(tensor.shape),
                "dtype": str(tensor.dtype),
                "format": "raw",
                "nbytes": tensor.nbytes,
                "byteOffset": len(self._content),
            }
        )
        self._content += np.ascontiguousarray(tensor).tobytes()

    def close(self, num_weights: int) -> None:
        """Write what is left. `num_weights` are the model's own, of which integers share words."""
        if self._content:
            self._write_shard()
        records = [record for shard in self._shards for record in shard["records"]]
        num_bytes = sum(record["nbytes"] for record in records)
        metadata = {
            "ParamSize": len(records),
            "ParamBytes": num_bytes,
            "BitsPerParam": 8 * num_bytes / num_weights,
        }
        cache = {"metadata": metadata, "records": self._shards}
        for name in CACHE_NAMES:  # the older one for programs that know it alone
            (self._directory / name).write_text(json.dumps(cache, indent=2), encoding="utf-8")

    def _write_shard(self) -> None:
        file = f"params_shard_{len(self._shards)}.bin"
        (self._directory / file).write_bytes(self._content)
        self._shards.append(
            {
                "dataPath": file,
                "format": "raw-shard",
                "nbytes": len(self._content),
                "records": self._records,
                "md5sum": hashlib.md5(self._content, usedforsecurity=False).hexdigest(),
            }
        )
        self._records, self._content = [], bytearray()

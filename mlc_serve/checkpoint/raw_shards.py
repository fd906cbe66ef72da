"""The tensors of an MLC directory, cut out of its shards."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlc_serve.checkpoint.named_file import named_file
from mlc_serve.checkpoint.tensor_cache import DTYPES, Record, Shard, find_index, read_shards
from mlc_serve.errors import CheckpointError


class RawShards:
    """Maps names to pieces of shards. A shard is mapped into memory when it is first read from.

    Raises CheckpointError if the index or a shard is missing, or if they contradict each other. Only the
    sizes of shards are checked: checksums would require reading all of them at every start.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.index = find_index(directory)
        self._shards: dict[str, NDArray[np.uint8]] = {}
        self._records: dict[str, tuple[str, Record]] = {}
        for shard in read_shards(self.index):
            self._check(shard)
            self._records |= {record.name: (shard.dataPath, record) for record in shard.records}

    @property
    def names(self) -> Collection[str]:
        """The names of all tensors."""
        return self._records.keys()

    @property
    def files(self) -> list[Path]:
        """The shards, in order of their names."""
        return [self._directory / file for file in sorted({file for file, _ in self._records.values()})]

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of one tensor, as its record declares it."""
        return tuple(self._find(name)[1].shape)

    def tensor(self, name: str) -> NDArray[Any]:
        """One tensor in the dtype that its record declares. Unless it has to be converted, it is the mapped
        file itself, and read-only.
        """
        file, record = self._find(name)
        if file not in self._shards:
            self._shards[file] = np.memmap(self._directory / file, mode="r", dtype=np.uint8)
        piece = self._shards[file][record.byteOffset : record.end]
        stored: NDArray[Any] = piece.view(record.stored_dtype).reshape(record.shape)
        return stored.astype(DTYPES[record.dtype], copy=False)

    def packed(self, name: str) -> None:
        """See StoredTensors: MLC's integers are tensors with names of their own."""

    def _find(self, name: str) -> tuple[str, Record]:
        """The shard and the record of a tensor."""
        if name not in self._records:
            raise CheckpointError(f"{self._directory}: there is no tensor {name}")
        return self._records[name]

    def _check(self, shard: Shard) -> None:
        path = named_file(self.index, "records.dataPath", shard.dataPath)
        size = path.stat().st_size
        if size != shard.nbytes:
            raise CheckpointError(f"{path}: {size} bytes, but {self.index.name} says {shard.nbytes}")
        for record in shard.records:
            if (fault := record.fault(size)) is not None:
                raise CheckpointError(f"{self.index}: tensor {record.name}: {fault}")

"""The tensors of an MLC directory: a JSON cache of records, and binary shards that they are cut out of."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike, NDArray
from pydantic import TypeAdapter, ValidationError

from mlc_serve.checkpoint.named_file import named_file
from mlc_serve.errors import CheckpointError
from mlc_serve.text.json_object import read_json_object

# The second is the name that older directories use.
CACHE_NAMES = ("tensor-cache.json", "ndarray-cache.json")

_DTYPES: dict[str, DTypeLike] = {
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "uint32": np.uint32,
    "int32": np.int32,
    "uint8": np.uint8,
    "int8": np.int8,
}


@dataclass(frozen=True)
class _Record:
    """One tensor. In the format "f32-to-bf16" a float32 tensor is stored as bfloat16."""

    name: str
    shape: list[int]
    dtype: str
    format: Literal["raw", "f32-to-bf16"]
    nbytes: int
    byteOffset: int  # noqa: N815  the file's own name for it

    @property
    def stored_dtype(self) -> np.dtype[Any]:
        is_halved = self.format == "f32-to-bf16" and self.dtype == "float32"
        return np.dtype(ml_dtypes.bfloat16 if is_halved else _DTYPES[self.dtype])

    def fault(self, shard_size: int) -> str | None:
        """Why the record can't be true, in words."""
        if self.dtype not in _DTYPES:
            return f"dtype {self.dtype} is not supported"
        if min(self.shape, default=0) < 0 or prod(self.shape) * self.stored_dtype.itemsize != self.nbytes:
            return (
                f"{self.nbytes} bytes are not the size of {self.dtype} {self.shape} in format {self.format}"
            )
        if self.byteOffset < 0 or self.byteOffset + self.nbytes > shard_size:
            return f"it lies outside of its shard of {shard_size} bytes"
        return None


@dataclass(frozen=True)
class _Shard:
    dataPath: str  # noqa: N815  the file's own name for it
    format: Literal["raw-shard"]
    nbytes: int
    records: list[_Record]


@dataclass(frozen=True)
class _Cache:
    records: list[_Shard]


class RawShards:
    """Maps names to pieces of shards, which are mapped into memory when first read.

    CheckpointError if the cache or a shard is missing, or if they contradict each other. Shards are checked
    by size alone: a checksum would read all of them at every start.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.cache = _find_cache(directory)
        self._shards: dict[str, NDArray[np.uint8]] = {}
        self._records: dict[str, tuple[str, _Record]] = {}
        for shard in _read_cache(self.cache).records:
            self._check(shard)
            self._records |= {record.name: (shard.dataPath, record) for record in shard.records}

    @property
    def names(self) -> Collection[str]:
        """All tensors."""
        return self._records.keys()

    @property
    def files(self) -> list[Path]:
        """The shards, in order of their names."""
        return [self._directory / file for file in sorted({file for file, _ in self._records.values()})]

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of one tensor, as its record declares it."""
        return tuple(self._find(name)[1].shape)

    def tensor(self, name: str) -> NDArray[Any]:
        """One tensor in the dtype that its record declares: read-only memory of its file, unless it has to be
        converted.
        """
        file, record = self._find(name)
        if file not in self._shards:
            self._shards[file] = np.memmap(self._directory / file, mode="r", dtype=np.uint8)
        piece = self._shards[file][record.byteOffset : record.byteOffset + record.nbytes]
        stored: NDArray[Any] = piece.view(record.stored_dtype).reshape(record.shape)
        return stored.astype(_DTYPES[record.dtype], copy=False)

    def _find(self, name: str) -> tuple[str, _Record]:
        """The shard and the record of a tensor."""
        if name not in self._records:
            raise CheckpointError(f"{self._directory}: there is no tensor {name}")
        return self._records[name]

    def _check(self, shard: _Shard) -> None:
        path = named_file(self.cache, "records.dataPath", shard.dataPath)
        size = path.stat().st_size
        if size != shard.nbytes:
            raise CheckpointError(f"{path}: {size} bytes, of the {shard.nbytes} that {self.cache.name} says")
        for record in shard.records:
            if (fault := record.fault(size)) is not None:
                raise CheckpointError(f"{self.cache}: tensor {record.name}: {fault}")


def _find_cache(directory: Path) -> Path:
    for name in CACHE_NAMES:
        if (directory / name).is_file():
            return directory / name
    raise CheckpointError(f"{directory}: there is neither {' nor '.join(CACHE_NAMES)}")


def _read_cache(path: Path) -> _Cache:
    try:
        return TypeAdapter(_Cache).validate_python(read_json_object(path))
    except ValidationError as error:
        fault = error.errors()[0]
        raise CheckpointError(f"{path}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}") from error

"""The format of a tensor cache: binary shards, and an index in JSON that says where each tensor lies.

    tensor-cache.json     {"metadata": {...}, "records": [shard, ...]}
    params_shard_0.bin    the bytes of its tensors, row-major, little-endian, one after another

A shard is {"dataPath", "format": "raw-shard", "nbytes", "records": [record, ...]}, and a record is {"name",
"shape", "dtype", "format", "nbytes", "byteOffset"}. There are two kinds:

* MLC's model directories have shards of about 32 MB, each with an "md5sum". The index may have an older name.
* The cache of converted weights is one aligned shard. Each of its records has a "crc32", and the index's
  metadata has one for the shard's entry, so that damage is found while the tensors are being loaded.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike, NDArray
from pydantic import TypeAdapter, ValidationError

from mlc_serve.errors import CheckpointError, DamagedArtifactError
from mlc_serve.text.json_object import read_json_object

INDEX_NAME = "tensor-cache.json"
INDEX_NAMES = (INDEX_NAME, "ndarray-cache.json")  # the second one is in older directories
SHARD_BYTES = 32 << 20
ALIGNMENT = 64  # TVM can use tensors in place if their addresses are multiples of this

DTYPES: dict[str, DTypeLike] = {
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "uint32": np.uint32,
    "int32": np.int32,
    "uint8": np.uint8,
    "int8": np.int8,
}


@dataclass(frozen=True)
class Record:
    """Where a tensor is in its shard. The format "f32-to-bf16" stores a float32 tensor as bfloat16."""

    name: str
    shape: list[int]
    dtype: str
    format: Literal["raw", "f32-to-bf16"]
    nbytes: int
    byteOffset: int  # noqa: N815 - the file's own name for it
    crc32: int | None = None

    @property
    def end(self) -> int:
        """The offset of the first byte after the tensor."""
        return self.byteOffset + self.nbytes

    @property
    def stored_dtype(self) -> np.dtype[Any]:
        """The type of the stored values."""
        is_halved = self.format == "f32-to-bf16" and self.dtype == "float32"
        return np.dtype(ml_dtypes.bfloat16 if is_halved else DTYPES[self.dtype])

    def fault(self, shard_size: int) -> str | None:
        """Why the record can't be correct, in words; None if it can."""
        if self.dtype not in DTYPES:
            return f"dtype {self.dtype} is not supported"
        if min(self.shape, default=0) < 0 or prod(self.shape) * self.stored_dtype.itemsize != self.nbytes:
            return (
                f"{self.nbytes} bytes are not the size of {self.dtype} {self.shape} in format {self.format}"
            )
        if self.byteOffset < 0 or self.end > shard_size:
            return f"it is not inside its shard of {shard_size} bytes"
        return None


@dataclass(frozen=True)
class Shard:
    """A file of tensors."""

    dataPath: str  # noqa: N815 - the file's own name for it
    format: Literal["raw-shard"]
    nbytes: int
    records: list[Record]


@dataclass(frozen=True)
class _Index:
    records: list[Shard]


# ---------------------------------------------------------------- reading


def find_index(directory: Path) -> Path:
    """The index of an MLC directory, under either name. Raises CheckpointError if there is none."""
    for name in INDEX_NAMES:
        if (directory / name).is_file():
            return directory / name
    raise CheckpointError(f"{directory}: there is neither {' nor '.join(INDEX_NAMES)}")


def read_shards(index: Path) -> list[Shard]:
    """The shards of an MLC directory. Raises CheckpointError if the index is malformed."""
    try:
        return TypeAdapter(_Index).validate_python(read_json_object(index)).records
    except ValidationError as error:
        fault = error.errors()[0]
        raise CheckpointError(f"{index}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}") from error


def read_checked_shard(directory: Path) -> Shard:
    """The shard of a directory that CheckedWriter has written. Its records are in the order of their places.

    Raises DamagedArtifactError if the index can't be read, or has changed since it was written.
    """
    path = directory / INDEX_NAME
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        (entry,) = index["records"]
        if _crc32_of(entry) != index["metadata"]["crc32"]:
            raise ValueError("its checksum is wrong")
        shard = TypeAdapter(Shard).validate_python(entry)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedArtifactError(f"{path} can't be read: {error}") from error
    shard.records.sort(key=lambda record: record.end)
    return shard


def _crc32_of(entry: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(entry).encode())


# ---------------------------------------------------------------- writing


class CheckedWriter:
    """Writes the cache of converted weights: tensors go to the disk as they are added. The index is written
    when the block ends without an exception.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._records: list[dict[str, Any]] = []

    def __enter__(self) -> CheckedWriter:
        self._file = (self._directory / _shard_name(0)).open("wb")
        return self

    def add(self, name: str, tensor: NDArray[Any]) -> None:
        """Append a tensor, at a multiple of ALIGNMENT bytes."""
        self._file.write(bytes(-self._file.tell() % ALIGNMENT))
        content = np.ascontiguousarray(tensor).reshape(-1).view(np.uint8)
        record = _record(name, tensor, self._file.tell())
        self._records.append({**record, "crc32": zlib.crc32(content.data)})
        self._file.write(content.data)  # unlike tofile(), this says why it fails

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            size = self._file.tell()
        if error is None:
            entry = _shard_entry(0, size, self._records)
            metadata = {"ParamSize": len(self._records), "ParamBytes": size, "crc32": _crc32_of(entry)}
            _write_index(self._directory / INDEX_NAME, metadata, [entry])


class ShardWriter:
    """Writes an MLC directory's tensors, one after the other; `close` writes the index."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._shards: list[dict[str, Any]] = []
        self._records: list[dict[str, Any]] = []
        self._content = bytearray()

    def add(self, name: str, tensor: NDArray[Any]) -> None:
        """Append a tensor, to a new shard if it does not fit into the last one."""
        if self._content and len(self._content) + tensor.nbytes > SHARD_BYTES:
            self._write_shard()
        self._records.append(_record(name, tensor, len(self._content)))
        self._content += np.ascontiguousarray(tensor).tobytes()

    def close(self, num_weights: int) -> None:
        """Write what is left. `num_weights` counts the model's own weights, even if several of them share a
        word because they are integers.
        """
        if self._content:
            self._write_shard()
        records = [record for shard in self._shards for record in shard["records"]]
        num_bytes = sum(record["nbytes"] for record in records)
        metadata = {
            "ParamSize": len(records),
            "ParamBytes": num_bytes,
            "BitsPerParam": 8 * num_bytes / num_weights,
        }
        for name in INDEX_NAMES:  # some programs know only the older one
            _write_index(self._directory / name, metadata, self._shards)

    def _write_shard(self) -> None:
        entry = _shard_entry(len(self._shards), len(self._content), self._records)
        digest = hashlib.md5(self._content, usedforsecurity=False).hexdigest()
        (self._directory / entry["dataPath"]).write_bytes(self._content)
        self._shards.append({**entry, "md5sum": digest})
        self._records, self._content = [], bytearray()


def _shard_name(number: int) -> str:
    return f"params_shard_{number}.bin"


def _shard_entry(number: int, size: int, records: list[dict[str, Any]]) -> dict[str, Any]:
    return {"dataPath": _shard_name(number), "format": "raw-shard", "nbytes": size, "records": records}


def _record(name: str, tensor: NDArray[Any], offset: int) -> dict[str, Any]:
    return {
        "name": name,
        "shape": list(tensor.shape),
        "dtype": str(tensor.dtype),
        "format": "raw",
        "nbytes": tensor.nbytes,
        "byteOffset": offset,
    }


def _write_index(path: Path, metadata: dict[str, Any], shards: Iterable[dict[str, Any]]) -> None:
    index = {"metadata": metadata, "records": list(shards)}
    path.write_text(json.dumps(index, indent=1), encoding="utf-8")

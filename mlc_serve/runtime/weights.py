"""Reading converted weights into memory, once, where the kernels read them.

On the CPU all weights lie in one region of huge pages: a decode step reads every byte of them, and with 4 KiB
pages the processor spends a good part of that on finding them.
"""

from __future__ import annotations

import json
import mmap
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tvm

from mlc_serve.errors import DamagedArtifactError
from mlc_serve.runtime.library import ParameterSpec

INDEX_NAME = "tensor-cache.json"
_PIECE = 64 << 20  # bytes read at a time, between two reports of progress

Progress = Callable[[int], object]


@dataclass(frozen=True)
class _Record:
    """Where one tensor lies in the shard."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    start: int
    size: int
    checksum: int

    @property
    def end(self) -> int:
        return self.start + self.size


@dataclass(frozen=True)
class _Shard:
    """The file that holds all tensors; `records` are in the order in which they lie there."""

    path: Path
    size: int
    records: list[_Record]


def load_weights(
    directory: Path, parameters: list[ParameterSpec], device: tvm.runtime.Device, progress: Progress
) -> list[tvm.runtime.Tensor]:
    """The library's parameters, from a directory that `checkpoint.conversion` wrote.

    `progress` is called with the bytes read since the last call. Raises DamagedArtifactError if the directory
    is not as it was written: if a file is missing or cut, if the bytes of the index or of a tensor are others
    than those whose checksum was noted, or if a tensor that the library takes is not among them.
    """
    shard = _read_index(directory)
    region = _read_region(shard, progress)
    records = {record.name: record for record in shard.records}
    return [_parameter(spec, records, region, device) for spec in parameters]


def _read_index(directory: Path) -> _Shard:
    """The index, believed only if its own checksum is right."""
    path = directory / INDEX_NAME
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        (shard,) = index["records"]
        if zlib.crc32(json.dumps(shard).encode()) != index["metadata"]["crc32"]:
            raise ValueError("its checksum is another")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedArtifactError(f"{path} can't be read: {error}") from error
    records = sorted(map(_record, shard["records"]), key=lambda record: record.end)
    return _Shard(directory / shard["dataPath"], shard["nbytes"], records)


def _record(entry: dict[str, Any]) -> _Record:
    return _Record(
        entry["name"],
        tuple(entry["shape"]),
        entry["dtype"],
        entry["byteOffset"],
        entry["nbytes"],
        entry["crc32"],
    )


def _read_region(shard: _Shard, progress: Progress) -> mmap.mmap:
    """The shard in memory. What has been read is checked while the rest is being read."""
    region = _memory(shard.size)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        region.madvise(mmap.MADV_HUGEPAGE)
    view, unchecked = memoryview(region), iter(shard.records)
    with ThreadPoolExecutor() as pool:
        checks, record = [], next(unchecked, None)
        for done in _read_pieces(shard, view, progress):
            while record is not None and record.end <= done:
                checks.append(pool.submit(_check, shard, record, view))
                record = next(unchecked, None)
        for check in checks:
            check.result()
    return region


def _read_pieces(shard: _Shard, view: memoryview, progress: Progress) -> Iterator[int]:
    """Fill the view from the shard's file; how much of it is filled after each piece."""
    try:
        with shard.path.open("rb", buffering=0) as file:
            done = 0
            while done < shard.size:
                count = file.readinto(view[done : done + _PIECE])
                if not count:
                    raise DamagedArtifactError(f"{shard.path} ends after {done} of {shard.size} bytes")
                done += count
                progress(count)
                yield done
    except OSError as error:
        raise DamagedArtifactError(f"{shard.path} can't be read: {error.strerror}") from error


def _check(shard: _Shard, record: _Record, view: memoryview) -> None:
    if zlib.crc32(view[record.start : record.end]) != record.checksum:
        raise DamagedArtifactError(
            f"{shard.path}: the bytes of {record.name} are not those that were written"
        )


def _memory(size: int) -> mmap.mmap:
    """Memory of this process alone where that can be said: huge pages are not for what could be shared."""
    if not hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, size)
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def _parameter(
    spec: ParameterSpec, records: dict[str, _Record], region: mmap.mmap, device: tvm.runtime.Device
) -> tvm.runtime.Tensor:
    record = records.get(spec.name)
    if record is None:
        raise DamagedArtifactError(f"the converted weights lack {spec.name}, which the library takes")
    if (record.shape, record.dtype) != (spec.shape, spec.dtype):
        raise DamagedArtifactError(
            f"the converted weight {spec.name} is {record.dtype} {list(record.shape)}; "
            f"the library takes {spec.dtype} {list(spec.shape)}"
        )
    flat = np.frombuffer(region, np.uint8, record.size, record.start)
    if device.type == "cpu":  # as bytes: NumPy hands no bfloat16 over
        return tvm.runtime.from_dlpack(flat)._create_view(spec.shape, spec.dtype)
    return tvm.runtime.tensor(flat.view(record.dtype).reshape(spec.shape), device)

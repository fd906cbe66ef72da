"""Reads converted weights into memory; on the CPU, straight to where the kernels read them.

On the CPU all weights lie in one region of huge pages, because a decode step reads every byte of them.
"""

from __future__ import annotations

import mmap
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tvm

from mlc_serve.checkpoint.tensor_cache import Record, Shard, read_checked_shard
from mlc_serve.errors import DamagedArtifactError
from mlc_serve.runtime.huge_pages import huge_pages
from mlc_serve.runtime.library import ParameterSpec

_PIECE = 64 << 20  # bytes read at a time, between two reports of progress

Progress = Callable[[int], object]


def load_weights(
    directory: Path, parameters: list[ParameterSpec], device: tvm.runtime.Device, progress: Progress
) -> list[tvm.runtime.Tensor]:
    """Return the library's parameters, from a directory that `checkpoint.conversion` wrote.

    `progress` is called with the number of bytes read since the last call. Raises DamagedArtifactError if a
    file is missing or cut off, if the checksum of the index or of a tensor is wrong, or if a tensor that the
    library takes is missing or has another shape or type.
    """
    shard = read_checked_shard(directory)
    region = _read_region(directory / shard.dataPath, shard, progress)
    records = {record.name: record for record in shard.records}
    return [_parameter(spec, records, region, device) for spec in parameters]


def _read_region(path: Path, shard: Shard, progress: Progress) -> mmap.mmap:
    """Read the shard into memory. What has been read is checked while the rest is being read."""
    region = huge_pages(shard.nbytes)
    view, unchecked = memoryview(region), iter(shard.records)
    with ThreadPoolExecutor() as pool:
        checks, record = [], next(unchecked, None)
        for done in _read_pieces(path, view, progress):
            while record is not None and record.end <= done:
                checks.append(pool.submit(_check, path, record, view))
                record = next(unchecked, None)
        for check in checks:
            check.result()
    return region


def _read_pieces(path: Path, view: memoryview, progress: Progress) -> Iterator[int]:
    """Fill the view from the file. After each piece, yields how many bytes have been read in all."""
    try:
        with path.open("rb", buffering=0) as file:
            done = 0
            while done < len(view):
                count = file.readinto(view[done : done + _PIECE])
                if not count:
                    raise DamagedArtifactError(f"{path} ends after {done} of {len(view)} bytes")
                done += count
                progress(count)
                yield done
    except OSError as error:
        raise DamagedArtifactError(f"{path} can't be read: {error.strerror}") from error


def _check(path: Path, record: Record, view: memoryview) -> None:
    if zlib.crc32(view[record.byteOffset : record.end]) != record.crc32:
        raise DamagedArtifactError(f"{path}: the bytes of {record.name} are not those that were written")


def _parameter(
    spec: ParameterSpec, records: dict[str, Record], region: mmap.mmap, device: tvm.runtime.Device
) -> tvm.runtime.Tensor:
    record = records.get(spec.name)
    if record is None:
        raise DamagedArtifactError(f"the converted weights lack {spec.name}, which the library takes")
    if (tuple(record.shape), record.dtype) != (spec.shape, spec.dtype):
        raise DamagedArtifactError(
            f"the converted weight {spec.name} is {record.dtype} {record.shape}; "
            f"the library takes {spec.dtype} {list(spec.shape)}"
        )
    flat = np.frombuffer(region, np.uint8, record.nbytes, record.byteOffset)
    if device.type == "cpu":  # as bytes, because NumPy can't pass bfloat16 on
        return tvm.runtime.from_dlpack(flat)._create_view(spec.shape, spec.dtype)
    return tvm.runtime.tensor(flat.view(record.dtype).reshape(spec.shape), device)

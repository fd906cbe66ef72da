"""Reading converted weights into memory, once, where the kernels read them.

On the CPU all weights lie in one region of huge pages: a decode step reads every byte of them, and with 4 KiB
pages the processor spends a good part of that on finding them.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tvm

from mlc_serve.errors import CheckpointError
from mlc_serve.runtime.library import ParameterSpec

INDEX_NAME = "tensor-cache.json"
_PIECE = 64 << 20  # bytes read at a time, between two reports of progress

Progress = Callable[[int], object]


def load_weights(
    directory: Path, parameters: list[ParameterSpec], device: tvm.runtime.Device, progress: Progress
) -> list[tvm.runtime.Tensor]:
    """The library's parameters, from a directory that `checkpoint.conversion` wrote.

    `progress` is called with the bytes read since the last call. Raises CheckpointError if one is missing or
    of another shape or type than the library takes.
    """
    index = json.loads((directory / INDEX_NAME).read_text(encoding="utf-8"))
    (shard,) = index["records"]
    region = _read_region(directory / shard["dataPath"], shard["nbytes"], progress)
    records = {record["name"]: record for record in shard["records"]}
    return [_parameter(spec, records, region, device) for spec in parameters]


def _read_region(path: Path, size: int, progress: Progress) -> mmap.mmap:
    region = _memory(size)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        region.madvise(mmap.MADV_HUGEPAGE)
    view = memoryview(region)
    with path.open("rb", buffering=0) as file:
        done = 0
        while done < size:
            count = file.readinto(view[done : done + _PIECE])
            if not count:
                raise CheckpointError(f"{path} ends after {done} of {size} bytes")
            done += count
            progress(count)
    return region


def _memory(size: int) -> mmap.mmap:
    """Memory of this process alone where that can be said: huge pages are not for what could be shared."""
    if not hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, size)
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def _parameter(
    spec: ParameterSpec, records: dict[str, Any], region: mmap.mmap, device: tvm.runtime.Device
) -> tvm.runtime.Tensor:
    record = records.get(spec.name)
    if record is None:
        raise CheckpointError(f"the converted weights lack {spec.name}, which the library takes")
    if (tuple(record["shape"]), record["dtype"]) != (spec.shape, spec.dtype):
        raise CheckpointError(
            f"the converted weight {spec.name} is {record['dtype']} {record['shape']}; "
            f"the library takes {spec.dtype} {list(spec.shape)}"
        )
    flat = np.frombuffer(region, np.uint8, record["nbytes"], record["byteOffset"])
    if device.type == "cpu":  # as bytes: NumPy hands no bfloat16 over
        return tvm.runtime.from_dlpack(flat)._create_view(spec.shape, spec.dtype)
    return tvm.runtime.tensor(flat.view(record["dtype"]).reshape(spec.shape), device)

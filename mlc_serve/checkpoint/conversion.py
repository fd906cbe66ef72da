"""Turning a checkpoint's tensors into those that a library takes: fused, cast or quantized, and packed, in
one file.

One tensor is in memory at a time; of a quantized one its integers and its scales, which are two parameters of
the library. The result is a directory in MLC's form: an index and one shard, whose tensors start at multiples
of 64 bytes, as TVM wants them. The index holds a checksum of each tensor and one of itself, by which damage
is found when the tensors are loaded.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from mlc_serve.checkpoint.checkpoint import Checkpoint
from mlc_serve.checkpoint.quantized_weights import read_quantized
from mlc_serve.checkpoint.sources import check_joined, source_names
from mlc_serve.errors import CheckpointError
from mlc_serve.quantization.packing import pack
from mlc_serve.quantization.scheme import GroupFormat

INDEX_NAME = "tensor-cache.json"
SHARD_NAME = "params_shard_0.bin"
_ALIGNMENT = 64

_INTEGERS, _SCALES = ".q_weight", ".q_scale"


class WantedTensor(Protocol):
    """One parameter of a library, as `runtime.library.ParameterSpec` is."""

    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def layout(self) -> str: ...
    @property
    def logical_shape(self) -> tuple[int, ...]: ...


def convert(
    checkpoint: Checkpoint,
    wanted: Sequence[WantedTensor],
    form: GroupFormat | None,
    directory: Path,
    progress: Callable[[int], object],
) -> None:
    """Write every wanted tensor to `directory`, calling `progress` with the bytes written since the last
    call. `form` is that of the library's integers, if its quantization scheme has any.

    Raises CheckpointError if the checkpoint lacks a tensor, has it in another shape, or has values in it that
    are not finite or that the wanted type can't hold.
    """
    records: list[dict[str, Any]] = []
    with (directory / SHARD_NAME).open("wb") as shard:
        for spec, tensor in _tensors(checkpoint, wanted, form):
            records.append(_write(shard, spec.name, tensor))
            progress(tensor.nbytes)
        size = shard.tell()
    shard_entry = {"dataPath": SHARD_NAME, "format": "raw-shard", "nbytes": size, "records": records}
    checksum = zlib.crc32(json.dumps(shard_entry).encode())
    index = {
        "metadata": {"ParamSize": len(records), "ParamBytes": size, "crc32": checksum},
        "records": [shard_entry],
    }
    (directory / INDEX_NAME).write_text(json.dumps(index, indent=1), encoding="utf-8")


def _tensors(
    checkpoint: Checkpoint, wanted: Sequence[WantedTensor], form: GroupFormat | None
) -> Iterator[tuple[WantedTensor, NDArray[Any]]]:
    """Each wanted tensor as the library takes it, integers and scales of a weight together."""
    done: set[str] = set()
    for spec in wanted:
        weight, _, _ = spec.name.rpartition(".")
        if form is None or not _is_quantized(spec):
            yield spec, pack(plain_tensor(checkpoint, spec), spec.layout)
        elif weight not in done:
            done.add(weight)
            specs = [other for other in wanted if other.name in (weight + _INTEGERS, weight + _SCALES)]
            yield from _quantized_tensors(checkpoint, weight, specs, form)


def _is_quantized(spec: WantedTensor) -> bool:
    """Not for libraries that MLC built: they take MLC's tensors as they are."""
    return spec.layout != "plain" and spec.name.endswith((_INTEGERS, _SCALES))


def _quantized_tensors(
    checkpoint: Checkpoint, name: str, specs: list[WantedTensor], form: GroupFormat
) -> Iterator[tuple[WantedTensor, NDArray[Any]]]:
    weight = read_quantized(checkpoint, name, specs[0].logical_shape, form)
    for spec in specs:
        if spec.name.endswith(_INTEGERS):
            yield spec, pack(weight.stored, spec.layout, padding=form.offset)
        else:
            yield spec, pack(weight.scale, spec.layout)


def plain_tensor(checkpoint: Checkpoint, spec: WantedTensor) -> NDArray[Any]:
    """A tensor in its wanted type, row-major whatever its layout. Raises CheckpointError, as `convert`."""
    return _cast(checkpoint, spec, _assemble(checkpoint, spec))


def _assemble(checkpoint: Checkpoint, spec: WantedTensor) -> NDArray[Any]:
    sources = source_names(checkpoint, spec.name)
    parts = [checkpoint.tensor(source) for source in sources]
    shapes = [part.shape for part in parts]
    check_joined(checkpoint, spec.name, list(zip(sources, shapes, strict=True)), spec.logical_shape)
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _cast(checkpoint: Checkpoint, spec: WantedTensor, tensor: NDArray[Any]) -> NDArray[Any]:
    with np.errstate(over="ignore"):  # looked for in the result
        cast: NDArray[Any] = tensor.astype(spec.dtype, copy=False)
    if np.isfinite(cast).all():
        return cast
    if not np.isfinite(tensor).all():
        raise CheckpointError(f"{checkpoint.directory}: tensor {spec.name} has values that are not finite")
    raise CheckpointError(
        f"{checkpoint.directory}: tensor {spec.name} has values that {spec.dtype} can't hold; "
        "choose a quantization with a wider type"
    )


def _write(shard: BinaryIO, name: str, tensor: NDArray[Any]) -> dict[str, Any]:
    shard.write(bytes(-shard.tell() % _ALIGNMENT))
    offset = shard.tell()
    content = np.ascontiguousarray(tensor).reshape(-1).view(np.uint8)
    shard.write(content.data)  # not tofile: its error does not say why
    return {
        "name": name,
        "shape": list(tensor.shape),
        "dtype": str(tensor.dtype),
        "format": "raw",
        "nbytes": tensor.nbytes,
        "byteOffset": offset,
        "crc32": zlib.crc32(content.data),
    }

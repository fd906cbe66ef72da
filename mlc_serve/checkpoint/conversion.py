"""Turning a checkpoint's tensors into those that a library takes: fused, cast, packed, in one file.

One tensor is in memory at a time. The result is a directory in MLC's form: an index and one shard, whose
tensors start at multiples of 64 bytes, as TVM wants them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from mlc_serve.checkpoint.checkpoint import Checkpoint
from mlc_serve.errors import CheckpointError
from mlc_serve.quantization.packing import pack

INDEX_NAME = "tensor-cache.json"
SHARD_NAME = "params_shard_0.bin"
_ALIGNMENT = 64

# A product that is computed at once -> what checkpoints have in its place: MLC's Qwen2 another name, Hugging
# Face's models the tensors that it is made of, row on row.
_SPELLINGS = {
    "self_attn.qkv_proj": (
        ("self_attn.c_attn",),
        ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    ),
    "mlp.gate_up_proj": (("mlp.gate_proj", "mlp.up_proj"),),
}


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
    checkpoint: Checkpoint, wanted: Sequence[WantedTensor], directory: Path, progress: Callable[[int], object]
) -> None:
    """Write every wanted tensor to `directory`, calling `progress` with the bytes written since the last
    call.

    Raises CheckpointError if the checkpoint lacks a tensor, has it in another shape, or has values in it that
    the wanted type can't hold.
    """
    records: list[dict[str, Any]] = []
    with (directory / SHARD_NAME).open("wb") as shard:
        for spec in wanted:
            tensor = pack(_cast(checkpoint, spec, _assemble(checkpoint, spec)), spec.layout)
            records.append(_write(shard, spec.name, tensor))
            progress(tensor.nbytes)
        size = shard.tell()
    index = {
        "metadata": {"ParamSize": len(records), "ParamBytes": size},
        "records": [{"dataPath": SHARD_NAME, "format": "raw-shard", "nbytes": size, "records": records}],
    }
    (directory / INDEX_NAME).write_text(json.dumps(index, indent=1), encoding="utf-8")


def _assemble(checkpoint: Checkpoint, spec: WantedTensor) -> NDArray[Any]:
    parts = [checkpoint.tensor(name) for name in _sources(checkpoint, spec.name)]
    tensor = parts[0] if len(parts) == 1 else np.concatenate(parts)
    if tensor.shape != spec.logical_shape:
        raise CheckpointError(
            f"{checkpoint.directory}: tensor {spec.name} has the shape {list(tensor.shape)}; "
            f"by its configuration the model takes {list(spec.logical_shape)}"
        )
    return tensor


def _cast(checkpoint: Checkpoint, spec: WantedTensor, tensor: NDArray[Any]) -> NDArray[Any]:
    with np.errstate(over="ignore"):  # looked for in the result
        cast: NDArray[Any] = tensor.astype(spec.dtype, copy=False)
    if cast.dtype != tensor.dtype and np.isinf(cast).any():
        raise CheckpointError(
            f"{checkpoint.directory}: tensor {spec.name} has values that {spec.dtype} can't hold; "
            "choose a quantization with a wider type"
        )
    return cast


def _sources(checkpoint: Checkpoint, name: str) -> list[str]:
    """The checkpoint's names of what `name` is made of; if it has none, those of the last spelling."""
    sources = [name]
    for fused, spellings in _SPELLINGS.items():
        for parts in spellings if fused in name else ():
            if sources[0] not in checkpoint.tensor_names:
                sources = [name.replace(fused, part) for part in parts]
    return sources


def _write(shard: BinaryIO, name: str, tensor: NDArray[Any]) -> dict[str, Any]:
    shard.write(bytes(-shard.tell() % _ALIGNMENT))
    offset = shard.tell()
    np.ascontiguousarray(tensor).tofile(shard)
    return {
        "name": name,
        "shape": list(tensor.shape),
        "dtype": str(tensor.dtype),
        "format": "raw",
        "nbytes": tensor.nbytes,
        "byteOffset": offset,
    }

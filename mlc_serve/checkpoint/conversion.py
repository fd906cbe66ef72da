"""Converts a checkpoint's tensors to those that a library takes: fused, cast or quantized, and laid out for
its kernels.

One tensor is in memory at a time, or both parts of a quantized weight: its integers and its scales are two
parameters of the library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mlc_serve.checkpoint.quantized_weights import read_quantized, read_restored
from mlc_serve.checkpoint.sources import Sources
from mlc_serve.checkpoint.tensor_cache import CheckedWriter
from mlc_serve.quantization.packing import pack
from mlc_serve.quantization.scheme import GroupFormat

_INTEGERS, _SCALES = ".q_weight", ".q_scale"


class WantedTensor(Protocol):
    """One parameter of a library, such as a `runtime.library.ParameterSpec`."""

    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def layout(self) -> str: ...
    @property
    def logical_shape(self) -> tuple[int, ...]: ...


# A checkpoint's tensors, and what is wanted of them.
Part = tuple[Sources, Sequence[WantedTensor]]


def convert(
    sources: Sources,
    wanted: Sequence[WantedTensor],
    form: GroupFormat | None,
    directory: Path,
    progress: Callable[[int], object],
    others: Sequence[Part] = (),
) -> None:
    """Write every wanted tensor to `directory`, calling `progress` with the bytes written since the last
    call. `form` is the form of the library's integers, if its quantization scheme has any. `others` are
    the tensors that are wanted of other checkpoints.

    Raises CheckpointError if the checkpoint lacks a tensor, if the tensor has another shape, or if it has
    values that are not finite or that the wanted type can't hold.
    """
    with CheckedWriter(directory) as writer:
        for part in ((sources, wanted), *others):
            for spec, tensor in _tensors(*part, form):
                writer.add(spec.name, tensor)
                progress(tensor.nbytes)


def _tensors(
    sources: Sources, wanted: Sequence[WantedTensor], form: GroupFormat | None
) -> Iterator[tuple[WantedTensor, NDArray[Any]]]:
    """Each wanted tensor in the library's form. The integers and the scales of a weight follow each other."""
    done: set[str] = set()
    for spec in wanted:
        weight, _, _ = spec.name.rpartition(".")
        if form is None or not _is_quantized(spec):
            yield spec, pack(plain_tensor(sources, spec), spec.layout)
        elif weight not in done:
            done.add(weight)
            specs = [other for other in wanted if other.name in (weight + _INTEGERS, weight + _SCALES)]
            yield from _quantized_tensors(sources, weight, specs, form)


def _is_quantized(spec: WantedTensor) -> bool:
    """Whether a tensor's integers need another layout. Libraries that MLC built take them as they are."""
    return spec.layout != "plain" and spec.name.endswith((_INTEGERS, _SCALES))


def _quantized_tensors(
    sources: Sources, name: str, specs: list[WantedTensor], form: GroupFormat
) -> Iterator[tuple[WantedTensor, NDArray[Any]]]:
    weight = read_quantized(sources, name, specs[0].logical_shape, form)
    for spec in specs:
        if spec.name.endswith(_INTEGERS):
            yield spec, pack(weight.stored, spec.layout, padding=form.offset)
        else:
            yield spec, pack(weight.scale, spec.layout)


def plain_tensor(sources: Sources, spec: WantedTensor) -> NDArray[Any]:
    """A tensor in its wanted type, row-major in any layout. Raises CheckpointError like `convert`."""
    return cast(sources, spec, _assemble(sources, spec))


def _assemble(sources: Sources, spec: WantedTensor) -> NDArray[Any]:
    weight, _, kind = spec.name.rpartition(".")
    restored = read_restored(sources, weight, spec.logical_shape) if kind == "weight" else None
    if restored is not None:
        return restored
    tensors = sources.tensors(spec.name)
    shapes = [(source, tensor.shape) for source, tensor in tensors.items()]
    sources.check_joined(spec.name, shapes, spec.logical_shape)
    parts = list(tensors.values())
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def cast(sources: Sources, spec: WantedTensor, tensor: NDArray[Any]) -> NDArray[Any]:
    """A tensor in the type of `spec`. Raises CheckpointError like `convert`."""
    with np.errstate(over="ignore"):  # the result is checked for infinities
        result: NDArray[Any] = tensor.astype(spec.dtype, copy=False)
    if np.isfinite(result).all():
        return result
    if not np.isfinite(tensor).all():
        raise sources.error(f"{spec.name} has values that are not finite")
    raise sources.error(
        f"{spec.name} has values that {spec.dtype} can't hold; choose a quantization with a wider type"
    )

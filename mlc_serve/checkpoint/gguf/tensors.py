"""The tensors of a model in GGUF files, under the names that transformers has for them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gguf.constants import GGMLQuantizationType as Kind
from numpy.typing import NDArray

from mlc_serve.checkpoint.gguf.file import FLOATS, GGUFFile, TensorInfo
from mlc_serve.errors import CheckpointError
from mlc_serve.quantization.packed import PackedWeight

_ROUNDED = frozenset(
    {
        *(Kind.Q8_0, Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1, Kind.IQ4_NL, Kind.IQ4_XS, Kind.MXFP4),
        *(Kind.Q2_K, Kind.Q3_K, Kind.Q4_K, Kind.Q5_K, Kind.Q6_K),
    }
)

# What is done to a tensor's array so that it becomes transformers' own.
Change = Callable[[NDArray[Any]], NDArray[Any]]


class GGUFTensors:
    """Implements StoredTensors. `names_of` maps transformers' names to the files', and `change_of` says, by
    the files' names, how a tensor has been changed.

    Raises CheckpointError for a type of numbers that is not supported.
    """

    def __init__(
        self,
        files: Sequence[GGUFFile],
        names_of: Mapping[str, str],
        row_change: Callable[[str], Change],
        value_change: Callable[[str], Change],
    ) -> None:
        self._files = files
        self._names_of = names_of
        self._row_change = row_change
        self._value_change = value_change
        self._places = {name: (file, info) for file in files for name, info in file.tensors.items()}
        for name in names_of.values():
            self._check_kind(name)

    @property
    def names(self) -> Collection[str]:
        """The names of all tensors."""
        return self._names_of.keys()

    @property
    def files(self) -> list[Path]:
        """The files that hold tensors."""
        return [file.path for file in self._files]

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of one tensor."""
        return self._place(name)[1].shape

    def tensor(self, name: str) -> NDArray[Any]:
        """One tensor: floats as they are stored, and others as float32."""
        own = self._names_of.get(name, "")
        file, _ = self._place(name)
        rows = self._row_change(own)(file.floats(own))
        return self._value_change(own)(rows)

    def packed(self, name: str) -> PackedWeight | None:
        """The integers of a matrix in Q8_0 or Q4_0, whose groups have a scale and nothing else."""
        own = self._names_of.get(name, "")
        file, info = self._place(name)
        if len(info.shape) != 2 or info.kind not in _UNPACK:
            return None
        return _UNPACK[info.kind](file.bytes_of(info), info.shape).each(self._row_change(own))

    def _place(self, name: str) -> tuple[GGUFFile, TensorInfo]:
        if name not in self._names_of:
            raise CheckpointError(f"{self._files[0].path}: there is no tensor {name}")
        return self._places[self._names_of[name]]

    def _check_kind(self, name: str) -> None:
        file, info = self._places[name]
        if info.kind not in FLOATS and info.kind not in _ROUNDED:
            supported = ", ".join(sorted(kind.name for kind in (*FLOATS, *_ROUNDED)))
            raise CheckpointError(
                f"{file.path}: {name} is {info.kind.name}, which is not supported; supported: {supported}"
            )


def _unpack_q8_0(data: NDArray[np.uint8], shape: tuple[int, ...]) -> PackedWeight:
    blocks = data.reshape(shape[0], shape[1] // 32, 34)
    integers = (blocks[:, :, 2:].view(np.int8).astype(np.int16) + 128).astype(np.uint8)
    return _packed(blocks, integers, 128, shape)


def _unpack_q4_0(data: NDArray[np.uint8], shape: tuple[int, ...]) -> PackedWeight:
    blocks = data.reshape(shape[0], shape[1] // 32, 18)
    halves = blocks[:, :, 2:]
    return _packed(blocks, np.concatenate([halves & 15, halves >> 4], axis=2), 8, shape)


def _packed(
    blocks: NDArray[np.uint8], integers: NDArray[np.uint8], zero: int, shape: tuple[int, ...]
) -> PackedWeight:
    """A weight in blocks of 32 that begin with a scale in 16 bits."""
    scale = np.ascontiguousarray(blocks[:, :, :2]).view(np.float16)[:, :, 0]
    return PackedWeight(integers.reshape(shape), np.full(scale.shape, zero, np.int16), scale, 32)


_UNPACK: Mapping[Kind, Callable[[NDArray[np.uint8], tuple[int, ...]], PackedWeight]] = {
    Kind.Q8_0: _unpack_q8_0,
    Kind.Q4_0: _unpack_q4_0,
}

"""The tensors of a file that torch.save has written. It needs no PyTorch, and runs no code of the file."""

from __future__ import annotations

import zipfile
from collections.abc import Collection
from math import prod
from pathlib import Path
from typing import Any, NoReturn

import ml_dtypes
import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from mlc_serve.checkpoint.tensor_pickle import PickledTensor, Storage, read_tensors
from mlc_serve.errors import CheckpointError

# The files that are read if there are no safetensors.
TORCH_NAMES = ("medusa_lm_head.pt", "pytorch_model.bin")
_PROGRAM = "/data.pkl"
_ORDER = b"little"
# Much more than the names and shapes of the tensors of any model take.
_LONGEST_PROGRAM = 4 << 20


class TorchWeights:
    """Implements StoredTensors for one file, a zip archive. Raises CheckpointError if it is no such file, or
    if it contains more than tensors by name.
    """

    index: Path | None = None

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._archive = zipfile.ZipFile(path)
            self._folder, self._tensors = self._read()
        except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError) as error:
            self._refuse(str(error), error)

    @property
    def names(self) -> Collection[str]:
        """The names of all tensors."""
        return self._tensors.keys()

    @property
    def files(self) -> list[Path]:
        """The one file."""
        return [self._path]

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of one tensor."""
        return self._tensor(name).shape

    def tensor(self, name: str) -> NDArray[Any]:
        """A copy of one tensor in its stored dtype."""
        tensor = self._tensor(name)
        try:
            values = self._values(tensor.storage)
            return _part(values, tensor)
        except (
            OSError,
            zipfile.BadZipFile,
            KeyError,
            ValueError,
            NotImplementedError,
            RuntimeError,
        ) as error:
            self._refuse(f"{name} can't be read: {error}", error)

    def packed(self, name: str) -> None:
        """See StoredTensors: tensors are taken as they are stored."""

    def _tensor(self, name: str) -> PickledTensor:
        if name not in self._tensors:
            raise CheckpointError(f"{self._path}: there is no tensor {name}")
        return self._tensors[name]

    def _read(self) -> tuple[str, dict[str, PickledTensor]]:
        """The folder of the archive that everything is in, and the tensors."""
        programs = [entry for entry in self._archive.infolist() if entry.filename.endswith(_PROGRAM)]
        if len(programs) != 1 or programs[0].file_size > _LONGEST_PROGRAM:
            raise ValueError("it has no list of tensors")
        folder = programs[0].filename.removesuffix(_PROGRAM)
        self._check_order(f"{folder}/byteorder")
        return folder, read_tensors(self._archive.read(programs[0]))

    def _check_order(self, name: str) -> None:
        if name not in self._archive.namelist():  # as in files of old versions
            return
        with self._archive.open(name) as file:
            if file.read(len(_ORDER) + 1) != _ORDER:
                raise ValueError("its numbers are not little-endian")

    def _values(self, storage: Storage) -> NDArray[Any]:
        entry = self._archive.getinfo(f"{self._folder}/data/{storage.key}")
        dtype = np.dtype(ml_dtypes.bfloat16 if storage.dtype == "bfloat16" else storage.dtype)
        if (
            entry.compress_type != zipfile.ZIP_STORED
            or entry.file_size != storage.num_values * dtype.itemsize
        ):
            raise ValueError("its values are not stored as its type and size say")
        return np.frombuffer(self._archive.read(entry), dtype)

    def _refuse(self, fault: str, error: Exception) -> NoReturn:
        raise CheckpointError(
            f"{self._path} can't be read: {fault}. If you trust it, convert it with PyTorch: "
            f"safetensors.torch.save_file(torch.load({self._path.name!r}), 'model.safetensors')"
        ) from error


def _part(values: NDArray[Any], tensor: PickledTensor) -> NDArray[Any]:
    """The values of a tensor. Raises ValueError if they are not all in its storage."""
    if 0 in tensor.shape:
        return np.empty(tensor.shape, values.dtype)
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True))
    if tensor.offset + last >= len(values) or prod(tensor.shape) > len(values):
        raise ValueError("it is larger than its storage")
    strides = [stride * values.itemsize for stride in tensor.strides]
    return as_strided(values[tensor.offset :], tensor.shape, strides).copy()

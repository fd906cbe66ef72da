"""The tensors of a Hugging Face directory: one safetensors file, or several with an index."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from mlc_serve.errors import CheckpointError
from mlc_serve.json_object import read_json_object

_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"


class SafetensorsWeights:
    """Maps names to files, which are mapped into memory when first read.

    CheckpointError if there are no such files, if one that the index names is missing, or can't be read.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._open_files: dict[str, Any] = {}
        self.index = directory / _INDEX if (directory / _INDEX).is_file() else None
        self._file_of = self._read_index(self.index) if self.index else self._names_in_single_file()

    @property
    def names(self) -> Collection[str]:
        """All tensors."""
        return self._file_of.keys()

    @property
    def files(self) -> list[Path]:
        """The files that hold tensors, in order of their names."""
        return [self._directory / file for file in sorted(set(self._file_of.values()))]

    def tensor(self, name: str) -> NDArray[Any]:
        """A copy of one tensor in its stored dtype."""
        file = self._file_of.get(name)
        if file is None:
            raise CheckpointError(f"{self._directory}: there is no tensor {name}")
        try:
            tensor: NDArray[Any] = self._open(file).get_tensor(name)
        except (
            SafetensorError,
            TypeError,
            AttributeError,
        ) as error:  # the latter two: a dtype that numpy has not
            raise CheckpointError(f"{self._directory / file}: can't read tensor {name}: {error}") from error
        return tensor

    def _open(self, file: str) -> Any:
        if file not in self._open_files:
            path = self._directory / file
            try:
                self._open_files[file] = safe_open(path, framework="numpy")
            except (SafetensorError, OSError) as error:
                raise CheckpointError(f"{path}: not a whole safetensors file: {error}") from error
        return self._open_files[file]

    def _names_in_single_file(self) -> dict[str, str]:
        if not (self._directory / _SINGLE).is_file():
            others = sorted(path.name for path in self._directory.glob("*.bin")) or ["no weights at all"]
            raise CheckpointError(
                f"{self._directory}: there is neither {_SINGLE} nor {_INDEX}, but {others[0]}"
            )
        return dict.fromkeys(self._open(_SINGLE).keys(), _SINGLE)

    def _read_index(self, index: Path) -> dict[str, str]:
        file_of = read_json_object(index).get("weight_map")
        if not isinstance(file_of, dict) or not all(isinstance(file, str) for file in file_of.values()):
            raise CheckpointError(f"{index}: weight_map does not map tensors to files")
        for file in sorted(set(file_of.values())):
            if not (self._directory / file).is_file():
                raise CheckpointError(f"{self._directory}: there is no {file}, which {_INDEX} names")
        return file_of

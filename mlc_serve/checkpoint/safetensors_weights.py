"""The tensors of a Hugging Face directory: one safetensors file, or several, with or without an index."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from mlc_serve.checkpoint.named_file import named_file
from mlc_serve.checkpoint.safetensors_bytes import DTYPES, SafetensorsBytes
from mlc_serve.errors import CheckpointError
from mlc_serve.text.json_object import read_json_object

_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_ANOTHER_FORM = "consolidated"  # files that begin so have the same tensors under other names

# In a model that was saved without its LM head, the names lack the prefix _BASE_MODEL.
_BASE_MODEL_NAME = "embed_tokens.weight"
_BASE_MODEL = "model."
_HEAD = "lm_head."


class _Place(NamedTuple):
    """The file that contains a tensor, and the tensor's name there."""

    file: str
    name: str


class SafetensorsWeights:
    """Maps names to files, which are mapped into memory when they are first read.

    As in transformers, model.safetensors is used if it exists, else the files of the index, else all other
    safetensors files. Raises CheckpointError if there are none, if a file of the index is missing or can't be
    read, or if there is no index and two files have a tensor of the same name.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._open_files: dict[str, Any] = {}
        self._bytes: dict[str, SafetensorsBytes] = {}
        self.index: Path | None = None
        self._places = _with_full_names(self._find_tensors())

    @property
    def names(self) -> Collection[str]:
        """The names of all tensors."""
        return self._places.keys()

    @property
    def files(self) -> list[Path]:
        """The files that hold tensors, in order of their names."""
        return [self._directory / file for file in sorted({place.file for place in self._places.values()})]

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of one tensor, as the header of its file states it."""
        place = self._place(name)
        try:
            return tuple(self._open(place.file).get_slice(place.name).get_shape())
        except SafetensorError as error:
            raise self._unreadable(place, error) from error

    def tensor(self, name: str) -> NDArray[Any]:
        """One tensor in its stored dtype: a copy, or the mapped file for 8-bit floating-point types."""
        place = self._place(name)
        try:
            if self._open(place.file).get_slice(place.name).get_dtype() in DTYPES:
                return self._bytes_of(place.file).tensor(place.name)
            tensor: NDArray[Any] = self._open(place.file).get_tensor(place.name)
        except (SafetensorError, TypeError, AttributeError) as error:  # the last two for an unknown dtype
            raise self._unreadable(place, error) from error
        return tensor

    def packed(self, name: str) -> None:
        """See StoredTensors: tensors are taken as they are stored."""

    def _place(self, name: str) -> _Place:
        if name not in self._places:
            raise CheckpointError(f"{self._directory}: there is no tensor {name}")
        return self._places[name]

    def _unreadable(self, place: _Place, error: Exception) -> CheckpointError:
        return CheckpointError(f"{self._directory / place.file}: can't read tensor {place.name}: {error}")

    def _open(self, file: str) -> Any:
        if file not in self._open_files:
            path = self._directory / file
            try:
                self._open_files[file] = safe_open(path, framework="numpy")
            except (SafetensorError, OSError) as error:
                raise CheckpointError(f"{path}: not a complete safetensors file: {error}") from error
        return self._open_files[file]

    def _bytes_of(self, file: str) -> SafetensorsBytes:
        if file not in self._bytes:
            self._bytes[file] = SafetensorsBytes(self._directory / file)
        return self._bytes[file]

    def _find_tensors(self) -> dict[str, str]:
        """The file of each tensor."""
        if (self._directory / _SINGLE).is_file():
            return dict(self._tensors_of(_SINGLE))
        if (self._directory / _INDEX).is_file():
            self.index = self._directory / _INDEX
            return self._read_index(self.index)
        return self._tensors_of_all_files()

    def _tensors_of(self, file: str) -> Iterator[tuple[str, str]]:
        yield from dict.fromkeys(self._open(file).keys(), file).items()

    def _tensors_of_all_files(self) -> dict[str, str]:
        paths = sorted(self._directory.glob("*.safetensors"))
        files = [path.name for path in paths if not path.name.startswith(_ANOTHER_FORM)]
        if not files:
            others = sorted(path.name for path in self._directory.glob("*.bin")) or ["no weights at all"]
            raise CheckpointError(
                f"{self._directory}: there is neither {_SINGLE} nor {_INDEX}, but {others[0]}"
            )
        file_of: dict[str, str] = {}
        for file in files:
            for name, _ in self._tensors_of(file):
                if name in file_of:
                    raise CheckpointError(
                        f"{self._directory}: both {file_of[name]} and {file} have a tensor {name}, and there "
                        f"is no {_INDEX} that says which is meant"
                    )
                file_of[name] = file
        return file_of

    def _read_index(self, index: Path) -> dict[str, str]:
        file_of = read_json_object(index).get("weight_map")
        if not isinstance(file_of, dict) or not all(isinstance(file, str) for file in file_of.values()):
            raise CheckpointError(f"{index}: weight_map does not map tensors to files")
        for file in sorted(set(file_of.values())):
            named_file(index, "weight_map", file)
        return file_of


def _with_full_names(file_of: dict[str, str]) -> dict[str, _Place]:
    """The places of tensors, by the names that they have in a model with an LM head."""
    is_base_model = _BASE_MODEL_NAME in file_of
    return {
        _BASE_MODEL + name if is_base_model and not name.startswith(_HEAD) else name: _Place(file, name)
        for name, file in file_of.items()
    }

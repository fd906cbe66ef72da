"""One file in llama.cpp's format: its metadata, and where its tensors are. The format is described in
docs/gguf.md of github.com/ggml-org/ggml.

The file is mapped into memory. Whatever it says about itself is compared with its size before memory is taken
for it.
"""

from __future__ import annotations

import math
import mmap
import reprlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize
from numpy.typing import NDArray

from mlc_serve.errors import CheckpointError

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_DEFAULT_ALIGNMENT, _MOST_ALIGNMENT = 32, 1 << 20
_MOST_DIMENSIONS = 4
# Types of values by number. Text and arrays are read in other ways.
_NUMBERS = {
    0: "u1",
    1: "i1",
    2: "<u2",
    3: "<i2",
    4: "<u4",
    5: "<i4",
    6: "<f4",
    10: "<u8",
    11: "<i8",
    12: "<f8",
}
_FLAG, _TEXT, _ARRAY = 7, 8, 9
# What numpy calls the types of tensors that are not rounded.
FLOATS: Mapping[GGMLQuantizationType, Any] = {
    GGMLQuantizationType.F32: np.float32,
    GGMLQuantizationType.F16: np.float16,
    GGMLQuantizationType.BF16: ml_dtypes.bfloat16,
}
# The fewest bytes of a text and of what describes a tensor.
_LEAST_TEXT, _LEAST_TENSOR = 8, 24


class TensorInfo(NamedTuple):
    """A tensor in its file: its shape, rows first, its type, and where its bytes are."""

    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    start: int
    num_bytes: int


class GGUFFile:
    """Raises CheckpointError, in one line that names the file, if it is no such file, is cut off, or
    contradicts itself.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._bytes = _mapped(path)
        cursor = _Cursor(self._bytes, path)
        num_tensors, num_values = _read_counts(cursor)
        self.metadata: Mapping[str, Any] = dict(_read_entry(cursor) for _ in range(num_values))
        infos = [_read_info(cursor) for _ in range(num_tensors)]
        data = _aligned(cursor.position, self._alignment())
        self.tensors: Mapping[str, TensorInfo] = {
            name: self._placed(name, info, data) for name, info in infos
        }

    def bytes_of(self, info: TensorInfo) -> NDArray[np.uint8]:
        """The bytes of a tensor, which are those of the mapped file."""
        return self._bytes[info.start : info.start + info.num_bytes]

    def floats(self, name: str) -> NDArray[Any]:
        """The values of a tensor: floats as they are stored, and others as float32."""
        info = self.tensors[name]
        if info.kind in FLOATS:
            stored: NDArray[Any] = self.bytes_of(info).view(FLOATS[info.kind])
            return stored.reshape(info.shape)
        rows = self.bytes_of(info).reshape(*info.shape[:-1], -1)  # the package takes rows of bytes
        floats: NDArray[np.float32] = dequantize(rows, info.kind)
        return floats.reshape(info.shape)

    def _alignment(self) -> int:
        alignment = self.metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
        if type(alignment) is not int or not 0 < alignment <= _MOST_ALIGNMENT:
            raise CheckpointError(f"{self.path}: general.alignment is {reprlib.repr(alignment)}")
        return alignment

    def _placed(self, name: str, info: TensorInfo, data: int) -> TensorInfo:
        """The tensor with its place in the file, where `data` is the beginning of all tensors."""
        placed = info._replace(start=data + info.start)
        if placed.start + placed.num_bytes > len(self._bytes):
            raise CheckpointError(
                f"{self.path}: tensor {shown(name)} ends at byte {placed.start + placed.num_bytes}, but the "
                f"file has only {len(self._bytes)}"
            )
        return placed


class _Cursor:
    """Reads one value after another, and never beyond the end."""

    def __init__(self, data: NDArray[np.uint8], path: Path) -> None:
        self.position = 0
        self._data = data
        self._path = path

    def take(self, num_bytes: int) -> NDArray[np.uint8]:
        """The next bytes."""
        self.require(num_bytes, 1)
        taken = self._data[self.position : self.position + num_bytes]
        self.position += num_bytes
        return taken

    def require(self, count: int, least_bytes: int) -> None:
        """Raise CheckpointError unless so many values, each of at least so many bytes, can follow."""
        if count * least_bytes > len(self._data) - self.position:
            raise self.error("the file is cut off, or no GGUF file")

    def number(self, kind: str) -> Any:
        """The next number. Of 32 bits, it is the shortest decimal that has these, as a configuration does."""
        value = self.take(np.dtype(kind).itemsize).view(kind)[0]
        return float(str(value)) if kind == "<f4" else value.item()

    def text(self) -> str:
        """The next text."""
        return self.take(self.number("<u8")).tobytes().decode(errors="replace")

    def error(self, fault: str) -> CheckpointError:
        """An error about the file."""
        return CheckpointError(f"{self._path}: {fault}")


def _mapped(path: Path) -> NDArray[np.uint8]:
    try:
        with path.open("rb") as file:
            return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
    except (OSError, ValueError) as error:  # an empty file can't be mapped
        fault = error.strerror if isinstance(error, OSError) else "the file is empty"
        raise CheckpointError(f"{path}: {fault}") from error


def _read_counts(cursor: _Cursor) -> tuple[int, int]:
    """The numbers of tensors and of values."""
    if cursor.take(4).tobytes() != _MAGIC:
        raise cursor.error("not a GGUF file")
    version = cursor.number("<u4")
    if version not in _VERSIONS:
        raise cursor.error(
            f"GGUF files of version {version} are not supported; supported: "
            f"{', '.join(map(str, _VERSIONS))}, with the least significant byte first"
        )
    num_tensors, num_values = cursor.number("<u8"), cursor.number("<u8")
    cursor.require(num_tensors, _LEAST_TENSOR)
    cursor.require(num_values, _LEAST_TEXT)
    return num_tensors, num_values


def _read_entry(cursor: _Cursor) -> tuple[str, Any]:
    """A key and its value."""
    key, kind = cursor.text(), cursor.number("<u4")
    return key, _read_array(cursor) if kind == _ARRAY else _reader(cursor, kind)()


def _read_array(cursor: _Cursor) -> list[Any]:
    kind, count = cursor.number("<u4"), cursor.number("<u8")
    if kind in _NUMBERS:
        dtype = np.dtype(_NUMBERS[kind])
        cursor.require(count, dtype.itemsize)
        values: list[Any] = cursor.take(count * dtype.itemsize).view(dtype).tolist()
        return values
    read = _reader(cursor, kind)
    cursor.require(count, _LEAST_TEXT if kind == _TEXT else 1)
    return [read() for _ in range(count)]


def _reader(cursor: _Cursor, kind: int) -> Callable[[], Any]:
    """Returns what reads a value of a type."""
    if kind in _NUMBERS:
        return lambda: cursor.number(_NUMBERS[kind])
    if kind == _FLAG:
        return lambda: bool(cursor.number("u1"))
    if kind == _TEXT:
        return cursor.text
    raise cursor.error(f"values of type {kind} are not supported")


def _read_info(cursor: _Cursor) -> tuple[str, TensorInfo]:
    """A tensor's name, and where it is from the beginning of all tensors on."""
    name, num_dimensions = cursor.text(), cursor.number("<u4")
    if not 0 < num_dimensions <= _MOST_DIMENSIONS:
        raise cursor.error(f"tensor {shown(name)} has {num_dimensions} dimensions")
    shape = tuple(cursor.number("<u8") for _ in range(num_dimensions))[::-1]
    number, start = cursor.number("<u4"), cursor.number("<u8")
    try:
        kind = GGMLQuantizationType(number)
    except ValueError:
        raise cursor.error(f"tensor {shown(name)} is of type {number}, which is not known") from None
    block, block_bytes = GGML_QUANT_SIZES[kind]
    if shape[-1] % block:
        raise cursor.error(f"tensor {shown(name)} has rows of {shape[-1]} values, in blocks of {block}")
    return name, TensorInfo(shape, kind, start, math.prod(shape) // block * block_bytes)


def _aligned(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment


def shown(name: str) -> str:
    """A name in a file, on one short line."""
    return name if name.isprintable() and len(name) < 100 else reprlib.repr(name)

"""Packing: how one form of packed weights is read, and the tensors that one of its weights consists of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from mlc_serve.checkpoint.stored_tensors import StoredTensors
from mlc_serve.errors import CheckpointError
from mlc_serve.quantization.packed import PackedWeight

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Parts:
    """The tensors of one weight, by the ends of their names: all names begin with `stem`."""

    tensors: StoredTensors
    directory: Path
    stem: str

    def has(self, end: str) -> bool:
        """Whether there is such a tensor."""
        return self.stem + end in self.tensors.names

    def shape(self, end: str, num_axes: int) -> Shape:
        """The shape of one tensor, which must have that many axes. Raises CheckpointError."""
        shape = self.tensors.shape(self.stem + end)
        if len(shape) != num_axes:
            raise self.error(end, f"has the shape {list(shape)}, but must have {num_axes} axes")
        return shape

    def check_shape(self, end: str, *wanted: Shape) -> None:
        """Raise CheckpointError if one tensor has none of the wanted shapes."""
        shape = self.tensors.shape(self.stem + end)
        if shape not in wanted:
            expected = " or ".join(str(list(other)) for other in wanted)
            raise self.error(end, f"has the shape {list(shape)}; with its weight it must be {expected}")

    def tensor(self, end: str, *dtypes: str) -> NDArray[Any]:
        """One tensor, which must have one of the types. Raises CheckpointError."""
        tensor = self.tensors.tensor(self.stem + end)
        if str(tensor.dtype) not in dtypes:
            raise self.error(end, f"is {tensor.dtype}, but must be {' or '.join(dtypes)}")
        return tensor

    def error(self, end: str, fault: str) -> CheckpointError:
        """An error about one tensor."""
        return CheckpointError(f"{self.directory}: tensor {self.stem}{end} {fault}")


class Packing(Protocol):
    """One form of packed weights. Every tensor whose name ends with `main` belongs to a packed weight.

    That weight's own name ends with `weight` instead, and the tensors that belong to it end with `others`.
    All methods raise CheckpointError for tensors that contradict each other.
    """

    @property
    def main(self) -> str: ...
    @property
    def weight(self) -> str: ...
    @property
    def others(self) -> tuple[str, ...]: ...

    def shape(self, parts: Parts) -> Shape:
        """The shape of the weight that `floats` gives, without reading a tensor."""

    def floats(self, parts: Parts) -> NDArray[Any]:
        """The weight in floating-point numbers, as the form defines them."""

    def packed(self, parts: Parts) -> PackedWeight | None:
        """The weight's integers; None if it has none, or if their groups are not neighbours in a row."""

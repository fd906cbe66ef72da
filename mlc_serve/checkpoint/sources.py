"""Maps the weights of a model to tensors of its checkpoint, which may differ in names and shapes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from mlc_serve.checkpoint.checkpoint import Checkpoint
from mlc_serve.errors import CheckpointError
from mlc_serve.models.weight_names import Part, WeightNames
from mlc_serve.quantization.packed import PackedWeight

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Sources:
    """A checkpoint's tensors, by the names of the model's weights. With `by_mlc_names`, weights are asked for
    by MLC's names, as libraries do that MLC built.
    """

    checkpoint: Checkpoint
    names: WeightNames
    by_mlc_names: bool = False

    def of(self, name: str) -> list[Part]:
        """The tensors that make up the weight `name`, in the order of its rows. The checkpoint may lack
        them.
        """
        if self.by_mlc_names and self.checkpoint.form == "mlc":
            return [Part(name)]
        own = self._of_mlc(name) if self.by_mlc_names else name
        return self.names.parts(own, self.checkpoint.form, self.checkpoint.tensors.names)

    def _of_mlc(self, name: str) -> str:
        try:
            return self.names.of_mlc(name)
        except ValueError as error:
            raise self.error(
                f"{error}; a library that MLC built needs the model in MLC's form: use convert_weight first"
            ) from error

    def has(self, name: str) -> bool:
        """Whether the checkpoint has every tensor of the weight."""
        return all(part.name in self.checkpoint.tensors.names for part in self.of(name))

    def tensors(self, name: str) -> dict[str, NDArray[Any]]:
        """The tensors of the weight, by the checkpoint's names, in the order of the rows, with the changes
        that make them rows of the weight.
        """
        return {part.name: self.values(part) for part in self.of(name)}

    def values(self, part: Part) -> NDArray[Any]:
        """The rows that one tensor gives."""
        return part.change.values(self.checkpoint.tensors.tensor(part.name))

    def packed(self, part: Part) -> PackedWeight | None:
        """The integers of these rows; None without any, or if the change does more than move rows."""
        packed = self.checkpoint.tensors.packed(part.name)
        return None if packed is None else packed.moved(part.change.values)

    def check(self, weights: Iterable[tuple[str, Shape]]) -> None:
        """Raise CheckpointError for the first weight (name and shape) that the checkpoint lacks or has in
        another shape. This reads no tensor.

        For a weight that is already quantized, only the number of rows is compared.
        """
        for name, shape in weights:
            words = f"{name.removesuffix('.weight')}.q_weight"
            if self.of(words)[0].name in self.checkpoint.tensors.names:
                rows = [(source, stored[:1]) for source, stored in self._shapes(words)]
                self.check_joined(f"{name} (quantized)", rows, shape[:1])
            else:
                self.check_joined(name, self._shapes(name), shape)

    def _shapes(self, name: str) -> list[tuple[str, Shape]]:
        """The tensors of a weight with the shapes of the rows that they give."""
        tensors = self.checkpoint.tensors
        return [(part.name, self._changed_shape(part, tensors.shape(part.name))) for part in self.of(name)]

    def _changed_shape(self, part: Part, stored: Shape) -> Shape:
        try:
            return part.change.shape(stored)
        except ValueError as error:
            raise self.error(f"{part.name} has the shape {list(stored)}, which is not supported") from error

    def check_joined(self, name: str, parts: Sequence[tuple[str, Shape]], wanted: Shape) -> None:
        """Raise CheckpointError if tensors (name and shape) do not have the shape of the weight `name` when
        their rows are joined.
        """
        for source, shape in parts:
            self.check_shape(source, shape, (*shape[:1], *wanted[1:]))
        num_rows = sum(shape[0] for _, shape in parts if shape)
        joined = parts[0][1] if len(parts) == 1 else (num_rows, *wanted[1:])
        self.check_shape(name, joined, wanted)

    def check_shape(self, name: str, shape: Shape, wanted: Shape) -> None:
        """Raise CheckpointError if a tensor does not have the shape that the model needs."""
        if shape != wanted:
            raise self.error(
                f"{name} has the shape {list(shape)}; by its configuration the model takes {list(wanted)}"
            )

    def error(self, fault: str) -> CheckpointError:
        """An error about a tensor; `fault` begins with its name."""
        return CheckpointError(f"{self.checkpoint.directory}: tensor {fault}")

"""Maps the weights of a model to tensors of its checkpoint, which may differ in names and shapes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from mlc_serve.checkpoint.checkpoint import Checkpoint
from mlc_serve.errors import CheckpointError
from mlc_serve.models.weight_names import WeightNames

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Sources:
    """A checkpoint's tensors, by the names of the model's weights."""

    checkpoint: Checkpoint
    names: WeightNames

    def of(self, name: str) -> list[str]:
        """The checkpoint's names of the tensors that make up the weight `name`, in the order of its rows. The
        checkpoint may lack them.
        """
        return self.names.sources(name, self.checkpoint.tensors.names)

    def has(self, name: str) -> bool:
        """Whether the checkpoint has every tensor of the weight."""
        return all(source in self.checkpoint.tensors.names for source in self.of(name))

    def tensors(self, name: str) -> dict[str, NDArray[Any]]:
        """The tensors of the weight, by the checkpoint's names, in the order of the rows."""
        return {source: self.checkpoint.tensors.tensor(source) for source in self.of(name)}

    def check(self, weights: Iterable[tuple[str, Shape]]) -> None:
        """Raise CheckpointError for the first weight (name and shape) that the checkpoint lacks or has in
        another shape. This reads no tensor.

        For a weight that is already quantized, only the number of rows is compared.
        """
        for name, shape in weights:
            words = f"{name.removesuffix('.weight')}.q_weight"
            if self.of(words)[0] in self.checkpoint.tensors.names:
                rows = [(source, self.checkpoint.tensors.shape(source)[:1]) for source in self.of(words)]
                self.check_joined(f"{name} (quantized)", rows, shape[:1])
            else:
                parts = [(source, self.checkpoint.tensors.shape(source)) for source in self.of(name)]
                self.check_joined(name, parts, shape)

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

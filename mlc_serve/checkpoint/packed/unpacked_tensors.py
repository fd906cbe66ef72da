"""UnpackedTensors: a directory with packed weights, seen as if it had the weights themselves."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from mlc_serve.checkpoint.packed.packing import Packing, Parts
from mlc_serve.checkpoint.stored_tensors import StoredTensors
from mlc_serve.quantization.packed import PackedWeight


class UnpackedTensors:
    """See StoredTensors. Packed weights have the names and the shapes that the model gives them; the tensors
    that they consist of are not named. All other tensors are those of `tensors`.
    """

    def __init__(self, tensors: StoredTensors, packings: Sequence[Packing], directory: Path) -> None:
        self._tensors = tensors
        self._packed: dict[str, tuple[Packing, Parts]] = {}
        parts: set[str] = set()
        for packing in packings:
            for name in tensors.names:
                if name.endswith(packing.main):
                    stem = name.removesuffix(packing.main)
                    self._packed[stem + packing.weight] = packing, Parts(tensors, directory, stem)
                    parts.update(stem + end for end in (packing.main, *packing.others))
        self._names = (set(tensors.names) - parts) | self._packed.keys()

    @property
    def names(self) -> Collection[str]:
        """See StoredTensors."""
        return self._names

    def shape(self, name: str) -> tuple[int, ...]:
        """See StoredTensors. For a packed weight, this compares the shapes of all that it consists of."""
        if name not in self._packed:
            return self._tensors.shape(name)
        packing, parts = self._packed[name]
        return packing.shape(parts)

    def tensor(self, name: str) -> NDArray[Any]:
        """See StoredTensors. A packed weight is float32."""
        if name not in self._packed:
            return self._tensors.tensor(name)
        packing, parts = self._packed[name]
        return packing.floats(parts)

    def packed(self, name: str) -> PackedWeight | None:
        """See StoredTensors."""
        if name not in self._packed:
            return self._tensors.packed(name)
        packing, parts = self._packed[name]
        return packing.packed(parts)

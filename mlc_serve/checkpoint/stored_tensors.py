"""StoredTensors: how the tensors of a checkpoint are read, whatever the format of their files."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol

from numpy.typing import NDArray

from mlc_serve.quantization.packed import PackedWeight


class StoredTensors(Protocol):
    """The tensors of one model directory, by the names that their files give them. All members raise
    CheckpointError for a file that is missing, cut off or malformed.
    """

    @property
    def names(self) -> Collection[str]:
        """The names of all tensors."""

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of one tensor, without reading it."""

    def tensor(self, name: str) -> NDArray[Any]:
        """One tensor, in its stored dtype (bfloat16 is that of ml_dtypes). It may be read-only.
        No other tensor is kept in memory.
        """

    def packed(self, name: str) -> PackedWeight | None:
        """The integers of a matrix that the files have packed, for which `tensor` gives floating-point
        numbers; None for all other tensors.
        """

"""Reads tensors of 8-bit floating-point types, which the safetensors package does not give to NumPy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike, NDArray

DTYPES: dict[str, DTypeLike] = {
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "F8_E8M0": ml_dtypes.float8_e8m0fnu,
}
_LENGTH_BYTES = 8  # at the beginning of a file: the length of its header


class SafetensorsBytes:
    """One file, whose header the safetensors package has found to be correct."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            self._header: dict[str, Any] = json.loads(file.read(length))
        self._start = _LENGTH_BYTES + length

    def tensor(self, name: str) -> NDArray[Any]:
        """A tensor with one of DTYPES, mapped into memory and read-only."""
        entry = self._header[name]
        first, end = entry["data_offsets"]
        if first == end:
            return np.empty(entry["shape"], DTYPES[entry["dtype"]])
        content = np.memmap(self._path, np.uint8, "r", self._start + first, (end - first,))
        return content.view(DTYPES[entry["dtype"]]).reshape(entry["shape"])

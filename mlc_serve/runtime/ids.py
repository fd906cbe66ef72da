"""Buffers for the token ids and positions that are passed to the model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import tvm


class IdBuffer:
    """Up to `capacity` int32 numbers, which are overwritten for each forward pass.

    A forward pass evicts almost everything but weights from the CPU caches, so that allocating a new tensor
    between two passes costs many times what it costs otherwise.
    """

    def __init__(self, capacity: int, device: tvm.runtime.Device) -> None:
        self._device = device
        self._host = tvm.runtime.empty((capacity,), "int32", tvm.cpu())
        self._numbers = np.from_dlpack(self._host)
        self._views: dict[int, tvm.runtime.Tensor] = {}

    def tensor(self, numbers: Sequence[int] | npt.NDArray[np.int32]) -> tvm.runtime.Tensor:
        """Return the numbers as a tensor on the device. On the CPU it is valid only until the next call."""
        count = len(numbers)
        self._numbers[:count] = numbers
        if self._device.type != "cpu":
            return tvm.runtime.tensor(self._numbers[:count], self._device)
        if count not in self._views:
            self._views[count] = self._host._create_view((count,))
        return self._views[count]

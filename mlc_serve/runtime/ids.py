"""Ids and positions on their way into the model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tvm


class IdBuffer:
    """Up to `capacity` numbers of int32, written anew for each forward pass.

    A pass over the weights leaves little else in the caches: each call that a new tensor takes between two of
    them costs many times what it costs by itself.
    """

    def __init__(self, capacity: int, device: tvm.runtime.Device) -> None:
        self._device = device
        self._host = tvm.runtime.empty((capacity,), "int32", tvm.cpu())
        self._numbers = np.from_dlpack(self._host)
        self._views: dict[int, tvm.runtime.Tensor] = {}

    def tensor(self, numbers: Sequence[int]) -> tvm.runtime.Tensor:
        """The numbers on the device; on the host only until the next call."""
        count = len(numbers)
        self._numbers[:count] = numbers
        if self._device.type != "cpu":
            return tvm.runtime.tensor(self._numbers[:count], self._device)
        if count not in self._views:
            self._views[count] = self._host._create_view((count,))
        return self._views[count]

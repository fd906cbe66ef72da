"""A buffer for the hidden states that are passed to a model that drafts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tvm

from mlc_serve.runtime.model_functions import States


class StateBuffer:
    """Up to `capacity` rows of `width` float32 numbers, which are overwritten for each forward pass. See
    IdBuffer for the reason.
    """

    def __init__(self, capacity: int, width: int, device: tvm.runtime.Device) -> None:
        self._device, self._width = device, width
        self._host = tvm.runtime.empty((capacity, width), "float32", tvm.cpu())
        self._rows: Any = np.from_dlpack(self._host)

    def tensor(self, parts: Sequence[States], batch: tuple[int, int]) -> tvm.runtime.Tensor:
        """Return the rows of all parts `(n, width)`, one part after another, as a tensor on the device of the
        shape `(*batch, width)`. On the CPU it is valid only until the next call.
        """
        count = batch[0] * batch[1]
        np.concatenate(parts, out=self._rows[:count])
        shape = (*batch, self._width)
        if self._device.type != "cpu":
            return tvm.runtime.tensor(self._rows[:count].reshape(shape), self._device)
        return self._host._create_view(shape)

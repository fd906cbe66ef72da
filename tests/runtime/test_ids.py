"""The buffer in which ids are passed to the model."""

from __future__ import annotations

import numpy as np
import pytest
import tvm

from mlc_serve.runtime.ids import IdBuffer


def test_a_tensor_holds_the_numbers_of_the_last_call() -> None:
    """The tensor has just these numbers, for any length up to the capacity, whatever came before."""
    buffer = IdBuffer(5, tvm.cpu())
    for numbers in ([7], [1, 2, 3, 4, 5], [9], [6, 8, 6]):
        tensor = buffer.tensor(numbers)
        assert tensor.dtype == "int32"
        assert np.from_dlpack(tensor).tolist() == numbers


def test_more_numbers_than_there_is_room_for_are_refused() -> None:
    """Too many numbers raise an error instead of being written beyond the buffer."""
    with pytest.raises(ValueError, match="broadcast"):
        IdBuffer(2, tvm.cpu()).tensor([1, 2, 3])

"""What a model keeps for a sequence in place of keys and values: states whose sizes don't grow."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

_VALUE_BYTES = 4  # float32


@dataclass(frozen=True)
class RecurrentShape:
    """Each of `num_layers` layers keeps states of these shapes for each sequence. They are float32, and zero
    before the first token.
    """

    num_layers: int
    states: tuple[tuple[int, ...], ...]

    @property
    def bytes_per_sequence(self) -> int:
        """How many bytes the states of one sequence take."""
        return _VALUE_BYTES * self.num_layers * sum(map(prod, self.states))

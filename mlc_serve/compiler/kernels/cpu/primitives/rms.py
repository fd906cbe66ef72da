"""The root mean square of a row, for kernels that normalize by it."""

from __future__ import annotations

from typing import Any, NamedTuple

from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.primitives.lanes import lanes
from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local


class Row(NamedTuple):
    """The innermost row of a buffer at some place."""

    buffer: Any
    place: tuple[Any, ...]

    def at(self, i: Any) -> Any:
        """Value `i` of the row."""
        indices = self.index(i)
        return self.buffer[indices]

    def index(self, i: Any) -> tuple[Any, ...]:
        """The place of value `i` in the buffer."""
        return (*self.place, i)


def inverse_rms(width: int, epsilon: float) -> Any:
    """The macro `inverse_rms(row, scale)`: scale[0] = 1 / sqrt(mean(row^2) + epsilon) of a Row of `width`."""
    step = lanes(width)

    @T.macro
    def inverse_rms(row, scale):
        squares = local((step,))
        for lane in T.vectorized(step):
            squares[lane] = T.float32(0)
        for i in T.serial(width // step):
            for lane in T.vectorized(step):
                squares[lane] = squares[lane] + row.at(i * step + lane) * row.at(i * step + lane)
        scale[0] = T.float32(0)
        for lane in T.unroll(step):
            scale[0] = scale[0] + squares[lane]
        scale[0] = T.float32(1) / T.sqrt(scale[0] / T.float32(width) + T.float32(epsilon))

    return inverse_rms

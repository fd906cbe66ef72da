"""A weight that consists of several matrices of one shape."""

from __future__ import annotations

from typing import Any

from tvm.relax.frontend import nn

from mlc_serve.compiler.kernels.cpu.experts.arithmetic import Arithmetic
from mlc_serve.quantization.packing import expert_columns


class StackedWeight(nn.Module):
    """`number` matrices of the shape `(N, K)`, as parameters in a layout with `-experts`, and a bias if there
    is one. If they are paired, tiles of the two halves of a matrix alternate.
    """

    def __init__(
        self,
        number: int,
        shape: tuple[int, int],
        arithmetic: Arithmetic,
        *,
        is_paired: bool = False,
        bias: bool = False,
    ) -> None:
        num_columns, depth = shape
        columns = expert_columns(num_columns, 2 if is_paired else 1)
        parts = arithmetic.weight_of(number * columns, depth)
        self._names = [part.name for part in parts]
        for part in parts:
            parameter = nn.Parameter(part.shape, part.dtype)
            parameter.attrs["layout"] = f"{part.layout}{'-paired' if is_paired else ''}-experts{number}"
            parameter.attrs["logical_shape"] = [number * num_columns, depth]
            setattr(self, part.name, parameter)
        self.bias = nn.Parameter([number * num_columns], "float32") if bias else None

    def parameters_of(self) -> tuple[Any, Any]:
        """The first parameter and the last, which may be the same."""
        return getattr(self, self._names[0]), getattr(self, self._names[-1])

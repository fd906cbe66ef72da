"""Layers whose weights are integers in groups. Activations are rounded to bytes, or taken as they are:
`Arithmetic` decides.

`LazyNorm` does nothing by itself. The layer that takes its result normalises while it rounds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from tvm import tirx
from tvm.relax.frontend import nn

from mlc_serve.compiler.kernels.cpu.linear.dequantized_matmul import dequantized_matmul
from mlc_serve.compiler.kernels.cpu.linear.dot import Dot
from mlc_serve.compiler.kernels.cpu.linear.epilogue import Epilogue, out_columns
from mlc_serve.compiler.kernels.cpu.linear.integer_embedding import integer_embedding
from mlc_serve.compiler.kernels.cpu.linear.integer_linear import LinearShape, integer_linear
from mlc_serve.compiler.kernels.cpu.primitives.float_unit import FloatUnit
from mlc_serve.compiler.layers.linear import Linear, can_alternate, optional_bias
from mlc_serve.compiler.layers.packed import rms_normalized
from mlc_serve.quantization.packing import tiles16_integers_shape, tiles16_scale_shape
from mlc_serve.quantization.scheme import GroupFormat

# A model has many layers of few shapes: each kernel is parsed once.
_linear: Callable[..., tirx.PrimFunc] = lru_cache(maxsize=None)(integer_linear)
_dequantized: Callable[..., tirx.PrimFunc] = lru_cache(maxsize=None)(dequantized_matmul)

# How a weight is multiplied: by sums of products of bytes, or widened to float32 in registers.
Arithmetic = Dot | FloatUnit


@dataclass(frozen=True)
class Normalized:
    """Rows `(1, s, K)` that their reader has to normalise."""

    rows: nn.Tensor
    weight: nn.Parameter
    epsilon: float


def plain_rows(x: nn.Tensor | Normalized) -> nn.Tensor:
    """Rows `(1, s, K)`, normalised, for readers that do not normalise."""
    return rms_normalized(x.rows, x.weight, x.epsilon) if isinstance(x, Normalized) else x


class _Weight(nn.Module):
    """The integers of a `(N, K)` weight and their scales, as parameters of a layer that gives `dtype`."""

    def __init__(
        self,
        num_columns: int,
        depth: int,
        groups: GroupFormat,
        arithmetic: Arithmetic,
        dtype: str,
        alternates: bool,
    ) -> None:
        self.num_columns, self.depth, self.groups, self.arithmetic = num_columns, depth, groups, arithmetic
        self.dtype = dtype
        self.q_weight = nn.Parameter(tiles16_integers_shape(num_columns, depth, groups), "uint8")
        self.q_scale = nn.Parameter(tiles16_scale_shape(num_columns, depth, groups), groups.scale_dtype)
        suffix = "-paired" if alternates else ""
        self.q_weight.attrs["layout"] = f"tiles16-u{groups.bits}{suffix}"
        self.q_scale.attrs["layout"] = f"tiles16-scale{suffix}"
        for parameter in (self.q_weight, self.q_scale):
            parameter.attrs["logical_shape"] = [num_columns, depth]

    def product(
        self, x: nn.Tensor | Normalized, epilogue: Epilogue, extra: nn.Tensor | None = None
    ) -> nn.Tensor:
        """The product with activations. `extra` is the tensor that the epilogue adds."""
        if isinstance(self.arithmetic, FloatUnit):
            return self._widened_product(self.arithmetic, x, epilogue, extra)
        rows = x.rows if isinstance(x, Normalized) else x
        epsilon = x.epsilon if isinstance(x, Normalized) else None
        shape = LinearShape(
            self.num_columns, self.depth, self.groups, epilogue, rows.dtype, self.dtype, epsilon
        )
        norm = x.weight if isinstance(x, Normalized) else rows
        operands = [rows, norm, self.q_weight, self.q_scale, rows if extra is None else extra]
        out = nn.Tensor.placeholder([1, rows.shape[1], out_columns(self.num_columns, epilogue)], self.dtype)
        kernel = _linear(shape, self.arithmetic)
        return nn.op.tensor_ir_op(kernel, f"integer_linear_{epilogue}", operands, out)

    def _widened_product(
        self, unit: FloatUnit, x: nn.Tensor, epilogue: Epilogue, extra: nn.Tensor | None
    ) -> nn.Tensor:
        kernel = _dequantized(self.num_columns, self.depth, self.groups, epilogue, "float32", unit)
        out = nn.Tensor.placeholder([1, x.shape[1], out_columns(self.num_columns, epilogue)], "float32")
        operands = [x, self.q_weight, self.q_scale, x if extra is None else extra]
        return nn.op.tensor_ir_op(kernel, f"dequantized_matmul_{epilogue}", operands, out)


class IntegerLinear(Linear, _Weight):
    """A product with a quantized weight. Pass gated=True if `gated` will be called."""

    def __init__(
        self,
        shape: tuple[int, int],
        groups: GroupFormat,
        arithmetic: Arithmetic,
        bias: bool,
        gated: bool,
        dtype: str,
    ) -> None:
        in_features, out_features = shape
        self.alternates = gated and not bias and can_alternate(out_features)
        super().__init__(out_features, in_features, groups, arithmetic, dtype, self.alternates)
        self.bias = optional_bias(out_features, bias)


class IntegerEmbedding(_Weight):
    """A quantized embedding table in the layout of the LM head, so that it can serve as the LM head, too."""

    def __init__(self, vocab_size: int, width: int, groups: GroupFormat, arithmetic: Arithmetic) -> None:
        super().__init__(vocab_size, width, groups, arithmetic, "float32", alternates=False)

    def forward(self, ids: nn.Tensor) -> nn.Tensor:
        kernel = integer_embedding(self.num_columns, self.depth, self.groups)
        out = nn.Tensor.placeholder([ids.shape[0], self.depth], "float32")
        return nn.op.tensor_ir_op(kernel, "embedding", [ids, self.q_weight, self.q_scale], out)

    def logits(self, x: nn.Tensor | Normalized) -> nn.Tensor:
        return self.product(x, "none")


class LazyNorm(nn.Module):
    """RMS normalization with a float32 weight, which the layer that takes its result computes."""

    def __init__(self, width: int, epsilon: float) -> None:
        self.epsilon = epsilon
        self.weight = nn.Parameter([width], "float32")

    def forward(self, x: nn.Tensor) -> Normalized:
        return Normalized(x, self.weight, self.epsilon)

"""Layers whose weights are integers in groups. Activations are rounded to bytes, or taken as they are:
`Arithmetic` decides. What a lazy norm returns is normalised while it is rounded.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from tvm import tirx
from tvm.relax.frontend import nn

from mlc_serve.compiler.kernels.cpu.linear.dequantized_matmul import dequantized_matmul
from mlc_serve.compiler.kernels.cpu.linear.dot import Dot
from mlc_serve.compiler.kernels.cpu.linear.epilogue import Epilogue
from mlc_serve.compiler.kernels.cpu.linear.integer_embedding import integer_embedding
from mlc_serve.compiler.kernels.cpu.linear.integer_linear import LinearShape, integer_linear
from mlc_serve.compiler.kernels.cpu.primitives.float_unit import FloatUnit
from mlc_serve.compiler.layers.linear import Linear, LinearForm, optional_bias
from mlc_serve.compiler.layers.norm import Normalized
from mlc_serve.quantization.packing import tiles16_integers_shape, tiles16_scale_shape
from mlc_serve.quantization.scheme import GroupFormat

# A model has many layers of few shapes: each kernel is parsed once.
_linear: Callable[..., tirx.PrimFunc] = lru_cache(maxsize=None)(integer_linear)
_dequantized: Callable[..., tirx.PrimFunc] = lru_cache(maxsize=None)(dequantized_matmul)

# How a weight is multiplied: by sums of products of bytes, or widened to float32 in registers.
Arithmetic = Dot | FloatUnit


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
        self,
        x: nn.Tensor | Normalized,
        epilogue: Epilogue,
        bias: nn.Tensor | None = None,
        residual: nn.Tensor | None = None,
    ) -> nn.Tensor:
        """The product with activations. The epilogue says whether the bias and the residual are read."""
        if isinstance(self.arithmetic, FloatUnit):
            return self._widened_product(self.arithmetic, x, epilogue, bias, residual)
        rows, norm = (x.rows, x.norm) if isinstance(x, Normalized) else (x, None)
        shape = LinearShape(
            self.num_columns,
            self.depth,
            self.groups,
            epilogue,
            rows.dtype,
            self.dtype,
            None if norm is None else norm.spec,
        )
        read = [None if norm is None else norm.weight, None if norm is None else norm.bias]
        read += [self.q_weight, self.q_scale, bias, residual]
        operands = [rows, *(rows if tensor is None else tensor for tensor in read)]
        out = nn.Tensor.placeholder([1, rows.shape[1], epilogue.out_columns(self.num_columns)], self.dtype)
        kernel = _linear(shape, self.arithmetic)
        return nn.op.tensor_ir_op(kernel, f"integer_linear_{epilogue.name}", operands, out)

    def _widened_product(
        self,
        unit: FloatUnit,
        x: nn.Tensor,
        epilogue: Epilogue,
        bias: nn.Tensor | None,
        residual: nn.Tensor | None,
    ) -> nn.Tensor:
        kernel = _dequantized(self.num_columns, self.depth, self.groups, epilogue, self.dtype, unit)
        out = nn.Tensor.placeholder([1, x.shape[1], epilogue.out_columns(self.num_columns)], self.dtype)
        addends = [x if tensor is None else tensor for tensor in (bias, residual)]
        operands = [x, self.q_weight, self.q_scale, *addends]
        return nn.op.tensor_ir_op(kernel, f"dequantized_matmul_{epilogue.name}", operands, out)


class IntegerLinear(Linear, _Weight):
    """A product with a quantized weight."""

    def __init__(self, form: LinearForm, groups: GroupFormat, arithmetic: Arithmetic) -> None:
        super().__init__(form.out_features, form.in_features, groups, arithmetic, form.dtype, form.alternates)
        self.form, self.bias = form, optional_bias(form)


class IntegerEmbedding(_Weight):
    """A quantized embedding table in the layout of the LM head, so that it can serve as the LM head, too.
    Rows are multiplied by `scale`, and logits are not.
    """

    def __init__(
        self, vocab_size: int, width: int, groups: GroupFormat, arithmetic: Arithmetic, scale: float = 1.0
    ) -> None:
        super().__init__(vocab_size, width, groups, arithmetic, "float32", alternates=False)
        self._scale = scale

    def forward(self, ids: nn.Tensor) -> nn.Tensor:
        kernel = integer_embedding(self.num_columns, self.depth, self.groups, self._scale)
        out = nn.Tensor.placeholder([ids.shape[0], self.depth], "float32")
        return nn.op.tensor_ir_op(kernel, "embedding", [ids, self.q_weight, self.q_scale], out)

    def logits(self, x: nn.Tensor | Normalized) -> nn.Tensor:
        return self.product(x, Epilogue())

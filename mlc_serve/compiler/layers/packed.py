"""Layers whose weights are floating-point numbers in tiles of 16 columns. Activations are float32."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from tvm import tirx
from tvm.relax.frontend import nn

from mlc_serve.compiler.kernels.cpu.linear.bf16_matmul import bf16_matmul
from mlc_serve.compiler.kernels.cpu.linear.embedding import float_embedding, pairs_embedding
from mlc_serve.compiler.kernels.cpu.linear.epilogue import Epilogue
from mlc_serve.compiler.kernels.cpu.linear.float_matmul import float_matmul
from mlc_serve.compiler.kernels.cpu.primitives.float_unit import FloatUnit
from mlc_serve.compiler.layers.linear import Linear, LinearForm, optional_bias
from mlc_serve.quantization.packing import tiles16_pairs_shape, tiles16_shape

# A model has many layers of few shapes: each kernel is parsed once.
_matmul: Callable[..., tirx.PrimFunc] = lru_cache(maxsize=None)(float_matmul)
_bf16_matmul: Callable[..., tirx.PrimFunc] = lru_cache(maxsize=None)(bf16_matmul)


class _Weight(nn.Module):
    """A `(N, K)` weight as a parameter of a layer, whose results have the type `out_dtype`."""

    def __init__(
        self,
        shape: tuple[int, int],
        weight_dtype: str,
        unit: FloatUnit,
        *,
        alternates: bool = False,
        out_dtype: str = "float32",
    ) -> None:
        self.shape, self.weight_dtype, self.out_dtype, self._unit = shape, weight_dtype, out_dtype, unit
        self.in_pairs = weight_dtype == "bfloat16"  # two of a column side by side
        shape_of = tiles16_pairs_shape if self.in_pairs else tiles16_shape
        self.weight = nn.Parameter(shape_of(*shape), weight_dtype)
        layout = "tiles16-pairs" if self.in_pairs else "tiles16"
        self.weight.attrs["layout"] = f"{layout}-paired" if alternates else layout
        self.weight.attrs["logical_shape"] = list(shape)

    def product(
        self,
        x: nn.Tensor,
        epilogue: Epilogue,
        bias: nn.Tensor | None = None,
        residual: nn.Tensor | None = None,
    ) -> nn.Tensor:
        """The product with activations. The epilogue says whether the bias and the residual are read."""
        kernel = (
            _bf16_matmul(*self.shape, epilogue, self.out_dtype, self._unit)
            if self.in_pairs
            else _matmul(*self.shape, self.weight_dtype, epilogue, self.out_dtype, self._unit)
        )
        out = nn.Tensor.placeholder([1, x.shape[1], epilogue.out_columns(self.shape[0])], self.out_dtype)
        operands = [x, self.weight, x if bias is None else bias, x if residual is None else residual]
        name = "bf16_matmul" if self.in_pairs else "float_matmul"
        return nn.op.tensor_ir_op(kernel, f"{name}_{epilogue.name}", operands, out)


class PackedLinear(Linear, _Weight):
    """A product with a weight in tiles of 16 columns."""

    def __init__(self, form: LinearForm, weight_dtype: str, unit: FloatUnit) -> None:
        shape = form.out_features, form.in_features
        super().__init__(shape, weight_dtype, unit, alternates=form.alternates, out_dtype=form.dtype)
        self.form, self.bias = form, optional_bias(form)


class PackedEmbedding(_Weight):
    """An embedding table in the layout of the LM head, so that it can serve as the LM head, too. Rows are
    multiplied by `scale`, and logits are not.
    """

    def __init__(
        self, vocab_size: int, width: int, weight_dtype: str, unit: FloatUnit, scale: float = 1.0
    ) -> None:
        super().__init__((vocab_size, width), weight_dtype, unit)
        self._scale = scale

    def forward(self, ids: nn.Tensor) -> nn.Tensor:
        kernel = (
            pairs_embedding(*self.shape, self._scale)
            if self.in_pairs
            else float_embedding(*self.shape, self.weight_dtype, self._scale)
        )
        out = nn.Tensor.placeholder([ids.shape[0], self.shape[1]], "float32")
        return nn.op.tensor_ir_op(kernel, "embedding", [ids, self.weight], out)

    def logits(self, x: nn.Tensor) -> nn.Tensor:
        return self.product(x, Epilogue())

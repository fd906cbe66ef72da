"""Layers whose weights are floating-point numbers in tiles of 16 columns. Activations are float32."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from tvm import tirx
from tvm.relax.frontend import nn

from mlc_serve.compiler.kernels.cpu.linear.bf16_matmul import bf16_matmul
from mlc_serve.compiler.kernels.cpu.linear.embedding import float_embedding, pairs_embedding
from mlc_serve.compiler.kernels.cpu.linear.epilogue import Epilogue, out_columns
from mlc_serve.compiler.kernels.cpu.linear.float_matmul import float_matmul
from mlc_serve.compiler.kernels.cpu.linear.norm import rms_norm
from mlc_serve.compiler.kernels.cpu.primitives.float_unit import FloatUnit
from mlc_serve.compiler.layers.linear import Linear, can_alternate, optional_bias
from mlc_serve.quantization.packing import tiles16_pairs_shape, tiles16_shape

# A model has many layers of few shapes: each kernel is parsed once.
_matmul: Callable[..., tirx.PrimFunc] = lru_cache(maxsize=None)(float_matmul)
_bf16_matmul: Callable[..., tirx.PrimFunc] = lru_cache(maxsize=None)(bf16_matmul)
_norm: Callable[..., tirx.PrimFunc] = lru_cache(maxsize=None)(rms_norm)


class _Weight(nn.Module):
    """A `(N, K)` weight as a parameter of a layer."""

    def __init__(self, num_columns: int, depth: int, dtype: str, unit: FloatUnit, alternates: bool) -> None:
        self.num_columns, self.depth, self.weight_dtype, self._unit = num_columns, depth, dtype, unit
        self.in_pairs = dtype == "bfloat16"  # two of a column side by side
        shape_of = tiles16_pairs_shape if self.in_pairs else tiles16_shape
        self.weight = nn.Parameter(shape_of(num_columns, depth), dtype)
        layout = "tiles16-pairs" if self.in_pairs else "tiles16"
        self.weight.attrs["layout"] = f"{layout}-paired" if alternates else layout
        self.weight.attrs["logical_shape"] = [num_columns, depth]

    def product(self, x: nn.Tensor, epilogue: Epilogue, extra: nn.Tensor | None = None) -> nn.Tensor:
        """The product with activations. `extra` is the tensor that the epilogue adds."""
        shape = (self.num_columns, self.depth)
        kernel = (
            _bf16_matmul(*shape, epilogue, "float32", self._unit)
            if self.in_pairs
            else _matmul(*shape, self.weight_dtype, epilogue, "float32", self._unit)
        )
        out = nn.Tensor.placeholder([1, x.shape[1], out_columns(self.num_columns, epilogue)], "float32")
        operands = [x, self.weight, x if extra is None else extra]
        name = "bf16_matmul" if self.in_pairs else "float_matmul"
        return nn.op.tensor_ir_op(kernel, f"{name}_{epilogue}", operands, out)


class PackedLinear(Linear, _Weight):
    """A product with a weight in tiles of 16 columns. Pass gated=True if `gated` will be called."""

    def __init__(
        self, shape: tuple[int, int], weight_dtype: str, unit: FloatUnit, bias: bool, gated: bool
    ) -> None:
        in_features, out_features = shape
        self.alternates = gated and not bias and can_alternate(out_features)
        super().__init__(out_features, in_features, weight_dtype, unit, self.alternates)
        self.bias = optional_bias(out_features, bias)


class PackedEmbedding(_Weight):
    """An embedding table in the layout of the LM head, so that it can serve as the LM head, too."""

    def __init__(self, vocab_size: int, width: int, weight_dtype: str, unit: FloatUnit) -> None:
        super().__init__(vocab_size, width, weight_dtype, unit, alternates=False)

    def forward(self, ids: nn.Tensor) -> nn.Tensor:
        kernel = (
            pairs_embedding(self.num_columns, self.depth)
            if self.in_pairs
            else float_embedding(self.num_columns, self.depth, self.weight_dtype)
        )
        out = nn.Tensor.placeholder([ids.shape[0], self.depth], "float32")
        return nn.op.tensor_ir_op(kernel, "embedding", [ids, self.weight], out)

    def logits(self, x: nn.Tensor) -> nn.Tensor:
        return self.product(x, "none")


class RMSNorm(nn.Module):
    """RMS normalization with a float32 weight."""

    def __init__(self, width: int, epsilon: float) -> None:
        self.width, self.epsilon = width, epsilon
        self.weight = nn.Parameter([width], "float32")

    def forward(self, x: nn.Tensor) -> nn.Tensor:
        return rms_normalized(x, self.weight, self.epsilon)


def rms_normalized(x: nn.Tensor, weight: nn.Parameter, epsilon: float) -> nn.Tensor:
    """RMS normalization of rows `(1, s, width)`."""
    kernel = _norm(int(weight.shape[0]), epsilon)
    out = nn.Tensor.placeholder(x.shape, "float32")
    return nn.op.tensor_ir_op(kernel, "rms_norm", [x, weight], out)

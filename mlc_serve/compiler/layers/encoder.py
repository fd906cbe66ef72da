"""The layers of encoders, for the CPU. Weights are floating-point numbers, and activations float32."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from tvm import tirx
from tvm.relax.frontend import nn
from tvm.target import Target

from mlc_serve.compiler.kernels.cpu.attention.heads import Heads
from mlc_serve.compiler.kernels.cpu.attention.prefill import encoder_attention
from mlc_serve.compiler.kernels.cpu.instructions import float_unit_for
from mlc_serve.compiler.kernels.cpu.linear.embedding import position_embedding
from mlc_serve.compiler.kernels.cpu.linear.gelu import gelu
from mlc_serve.compiler.kernels.cpu.linear.layer_norm import add_layer_norm
from mlc_serve.compiler.layers.packed import PackedEmbedding, PackedLinear
from mlc_serve.quantization.scheme import Scheme

# A model has many layers of few shapes: each kernel is parsed once.
_attention: Callable[..., tirx.PrimFunc] = lru_cache(maxsize=None)(encoder_attention)
_gelu: Callable[..., tirx.PrimFunc] = lru_cache(maxsize=None)(gelu)
_add_norm: Callable[..., tirx.PrimFunc] = lru_cache(maxsize=None)(add_layer_norm)


class AddNorm(nn.Module):
    """Layer normalization of a sum, with a float32 weight and bias."""

    def __init__(self, width: int, epsilon: float) -> None:
        self.width, self.epsilon = width, epsilon
        self.weight = nn.Parameter([width], "float32")
        self.bias = nn.Parameter([width], "float32")

    def forward(self, x: nn.Tensor, residual: nn.Tensor) -> nn.Tensor:
        operands = [x, residual, self.weight, self.bias]
        out = nn.Tensor.placeholder(x.shape, "float32")
        return nn.op.tensor_ir_op(_add_norm(self.width, self.epsilon), "add_layer_norm", operands, out)


class Table(nn.Module):
    """A float32 table of embeddings, row after row."""

    def __init__(self, num_rows: int, width: int) -> None:
        self.num_rows, self.width = num_rows, width
        self.weight = nn.Parameter([num_rows, width], "float32")


class CPUEncoderLayers:
    """Implements models.encoder_layers.EncoderLayers."""

    def __init__(self, scheme: Scheme, target: Target) -> None:
        self._weight_dtype = scheme.weight_dtype
        self._unit = float_unit_for(target)
        self.bfloat16_products = self._unit.has_pairs

    def linear(self, in_features: int, out_features: int) -> PackedLinear:
        return PackedLinear(
            (in_features, out_features), self._weight_dtype, self._unit, bias=True, gated=False
        )

    def embedding(self, num_rows: int, width: int) -> PackedEmbedding:
        return PackedEmbedding(num_rows, width, self._weight_dtype, self._unit)

    def table(self, num_rows: int, width: int) -> Table:
        return Table(num_rows, width)

    def place(self, positions: nn.Tensor, table: Table, types: Table) -> nn.Tensor:
        kernel = position_embedding(table.num_rows, types.num_rows, table.width)
        out = nn.Tensor.placeholder([positions.shape[0], table.width], "float32")
        operands = [positions, table.weight, types.weight]
        return nn.op.tensor_ir_op(kernel, "position_embedding", operands, out)

    def add_norm(self, width: int, epsilon: float) -> AddNorm:
        return AddNorm(width, epsilon)

    def gelu(self, x: nn.Tensor) -> nn.Tensor:
        out = nn.Tensor.placeholder(x.shape, "float32")
        return nn.op.tensor_ir_op(_gelu(int(x.shape[2])), "gelu", [x], out)

    def attention(
        self, q: nn.Tensor, k: nn.Tensor, v: nn.Tensor, first_rows: nn.Tensor, num_heads: int
    ) -> nn.Tensor:
        _, num_rows, width = q.shape
        heads = Heads(num_heads, num_heads, int(width) // num_heads)
        rows = [tensor.reshape(num_rows, num_heads, heads.dim) for tensor in (q, k, v)]
        out = nn.Tensor.placeholder([1, num_rows, width], "float32")
        kernel = _attention(heads, self._unit)
        return nn.op.tensor_ir_op(kernel, "encoder_attention", [*rows, first_rows], out)

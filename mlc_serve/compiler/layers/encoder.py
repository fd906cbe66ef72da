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
from mlc_serve.compiler.layers.linear import LinearForm, activate
from mlc_serve.compiler.layers.norm import RowNorm
from mlc_serve.compiler.layers.packed import PackedEmbedding, PackedLinear
from mlc_serve.compiler.layers.table import Table
from mlc_serve.models.parts.norm import Norm
from mlc_serve.quantization.scheme import Scheme

# A model has many layers of few shapes: each kernel is parsed once.
_attention: Callable[..., tirx.PrimFunc] = lru_cache(maxsize=None)(encoder_attention)


class CPUEncoderLayers:
    """Implements models.encoder_layers.EncoderLayers."""

    def __init__(self, scheme: Scheme, target: Target) -> None:
        self._weight_dtype = scheme.weight_dtype
        self._unit = float_unit_for(target)
        self.bfloat16_products = self._unit.has_pairs

    def linear(self, in_features: int, out_features: int) -> PackedLinear:
        form = LinearForm(in_features, out_features, bias=True)
        return PackedLinear(form, self._weight_dtype, self._unit)

    def embedding(self, num_rows: int, width: int) -> PackedEmbedding:
        return PackedEmbedding(num_rows, width, self._weight_dtype, self._unit)

    def table(self, num_rows: int, width: int) -> Table:
        return Table(num_rows, width)

    def place(self, positions: nn.Tensor, table: Table, types: Table) -> nn.Tensor:
        kernel = position_embedding(table.num_rows, types.num_rows, table.width)
        out = nn.Tensor.placeholder([positions.shape[0], table.width], "float32")
        operands = [positions, table.weight, types.weight]
        return nn.op.tensor_ir_op(kernel, "position_embedding", operands, out)

    def norm(self, spec: Norm) -> RowNorm:
        return RowNorm(spec)

    def gelu(self, x: nn.Tensor) -> nn.Tensor:
        return activate(x, "gelu", gated=False)

    def attention(
        self, q: nn.Tensor, k: nn.Tensor, v: nn.Tensor, first_rows: nn.Tensor, num_heads: int
    ) -> nn.Tensor:
        _, num_rows, width = q.shape
        heads = Heads(num_heads, num_heads, int(width) // num_heads)
        rows = [tensor.reshape(num_rows, num_heads, heads.dim) for tensor in (q, k, v)]
        out = nn.Tensor.placeholder([1, num_rows, width], "float32")
        kernel = _attention(heads, self._unit)
        return nn.op.tensor_ir_op(kernel, "encoder_attention", [*rows, first_rows], out)

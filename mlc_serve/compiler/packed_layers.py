"""Layers whose weights are floating-point numbers in tiles of 16 columns. Activations are float32."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from tvm import tirx
from tvm.relax.frontend import nn

from mlc_serve.compiler.kernels.cpu.activation import silu_multiply
from mlc_serve.compiler.kernels.cpu.embedding import packed_embedding
from mlc_serve.compiler.kernels.cpu.matmul import Epilogue, packed_matmul
from mlc_serve.compiler.kernels.cpu.norm import rms_norm
from mlc_serve.quantization.packing import tiles16_shape

# A model has many layers of few shapes: each kernel is parsed once.
_matmul: Callable[..., tirx.PrimFunc] = lru_cache(maxsize=None)(packed_matmul)
_norm: Callable[..., tirx.PrimFunc] = lru_cache(maxsize=None)(rms_norm)
_silu: Callable[..., tirx.PrimFunc] = lru_cache(maxsize=None)(silu_multiply)


def _packed_weight(num_columns: int, depth: int, dtype: str) -> nn.Parameter:
    weight = nn.Parameter(tiles16_shape(num_columns, depth), dtype)
    weight.attrs["layout"] = "tiles16"
    weight.attrs["logical_shape"] = [num_columns, depth]
    return weight


class PackedLinear(nn.Module):
    """A product with a weight in tiles of 16 columns."""

    def __init__(self, in_features: int, out_features: int, weight_dtype: str, bias: bool) -> None:
        self.in_features, self.out_features, self.weight_dtype = in_features, out_features, weight_dtype
        self.weight = _packed_weight(out_features, in_features, weight_dtype)
        self.bias = nn.Parameter([out_features], "float32") if bias else None

    def forward(self, x: nn.Tensor) -> nn.Tensor:
        if self.bias is None:
            return self._product("none", [x, self.weight])
        return self._product("bias", [x, self.weight, self.bias])

    def add_to(self, residual: nn.Tensor, x: nn.Tensor) -> nn.Tensor:
        if self.bias is not None:
            return residual + self.forward(x)
        return self._product("residual", [x, self.weight, residual])

    def gated(self, x: nn.Tensor) -> nn.Tensor:
        return silu_gate(self.forward(x))

    def _product(self, epilogue: Epilogue, operands: list[nn.Tensor]) -> nn.Tensor:
        kernel = _matmul(self.out_features, self.in_features, self.weight_dtype, epilogue)
        out = nn.Tensor.placeholder([1, operands[0].shape[1], self.out_features], "float32")
        return nn.op.tensor_ir_op(kernel, f"matmul_{epilogue}", operands, out)


class PackedEmbedding(nn.Module):
    """An embedding table in the layout of the LM head, which it may be."""

    def __init__(self, vocab_size: int, width: int, weight_dtype: str) -> None:
        self.vocab_size, self.width, self.weight_dtype = vocab_size, width, weight_dtype
        self.weight = _packed_weight(vocab_size, width, weight_dtype)

    def forward(self, ids: nn.Tensor) -> nn.Tensor:
        kernel = packed_embedding(self.vocab_size, self.width, self.weight_dtype)
        out = nn.Tensor.placeholder([ids.shape[0], self.width], "float32")
        return nn.op.tensor_ir_op(kernel, "embedding", [ids, self.weight], out)

    def logits(self, x: nn.Tensor) -> nn.Tensor:
        kernel = _matmul(self.vocab_size, self.width, self.weight_dtype, "none")
        out = nn.Tensor.placeholder([1, x.shape[1], self.vocab_size], "float32")
        return nn.op.tensor_ir_op(kernel, "lm_head", [x, self.weight], out)


class RMSNorm(nn.Module):
    """RMS normalization with a float32 weight."""

    def __init__(self, width: int, epsilon: float) -> None:
        self.width, self.epsilon = width, epsilon
        self.weight = nn.Parameter([width], "float32")

    def forward(self, x: nn.Tensor) -> nn.Tensor:
        out = nn.Tensor.placeholder([1, x.shape[1], self.width], "float32")
        return nn.op.tensor_ir_op(_norm(self.width, self.epsilon), "rms_norm", [x, self.weight], out)


def silu_gate(gate_up: nn.Tensor) -> nn.Tensor:
    """`(1, s, 2 n)`, gate before up -> SiLU(gate) * up, `(1, s, n)`."""
    width = int(gate_up.shape[2]) // 2
    out = nn.Tensor.placeholder([1, gate_up.shape[1], width], "float32")
    return nn.op.tensor_ir_op(_silu(width), "silu_multiply", [gate_up], out)

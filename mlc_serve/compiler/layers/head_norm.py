"""The norms of queries and keys on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from tvm import tirx
from tvm.relax.frontend import nn

from mlc_serve.compiler.kernels.cpu.attention.head_norm import head_norm
from mlc_serve.models.parts.attention import AttentionShape
from mlc_serve.models.parts.head_norm import HeadNorm

# A model has many layers of one shape: each kernel is parsed once.
_head_norm: Callable[..., tirx.PrimFunc] = lru_cache(maxsize=None)(head_norm)


class CPUHeadNorm(nn.Module):
    """The float32 weight of a norm, and its bias if it has one."""

    def __init__(self, spec: HeadNorm, num_heads: int, head_dim: int) -> None:
        self.spec = spec
        self.weight = nn.Parameter(spec.shape(num_heads, head_dim), "float32")
        self.bias = nn.Parameter(spec.shape(num_heads, head_dim), "float32") if spec.bias else None


def normalize_heads(
    qkv: nn.Tensor, q_norm: CPUHeadNorm, k_norm: CPUHeadNorm, shape: AttentionShape, dtype: str
) -> nn.Tensor:
    """See Layers.normalize_heads; the result is of `dtype`."""
    kernel = _head_norm(shape.num_q_heads, shape.num_kv_heads, shape.head_dim, q_norm.spec, dtype)
    norms = (q_norm, k_norm)
    weights = [norm.weight for norm in norms]
    biases = [norm.weight if norm.bias is None else norm.bias for norm in norms]  # perhaps not read
    out = nn.Tensor.placeholder(qkv.shape, dtype)
    return nn.op.tensor_ir_op(kernel, "head_norm", [qkv, *weights, *biases], out)

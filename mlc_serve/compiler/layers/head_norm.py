"""The norm of single heads on the CPU."""

from __future__ import annotations

from tvm.relax.frontend import nn

from mlc_serve.compiler.kernels.cpu.attention.head_norm import head_norm
from mlc_serve.compiler.layers.packed import RMSNorm
from mlc_serve.models.parts.attention import AttentionShape


def normalize_heads(
    qkv: nn.Tensor, q_norm: RMSNorm, k_norm: RMSNorm, shape: AttentionShape, dtype: str
) -> nn.Tensor:
    """See Layers.normalize_heads; the result is of `dtype`."""
    kernel = head_norm(shape.num_q_heads, shape.num_kv_heads, shape.head_dim, q_norm.epsilon, dtype)
    out = nn.Tensor.placeholder(qkv.shape, dtype)
    return nn.op.tensor_ir_op(kernel, "head_norm", [qkv, q_norm.weight, k_norm.weight], out)

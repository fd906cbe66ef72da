"""The norms of queries and keys on GPUs, of Relax's operators."""

from __future__ import annotations

from tvm.relax.frontend import nn

from mlc_serve.models.parts.head_norm import HeadNorm


class GPUHeadNorm(nn.Module):
    """Normalises the heads `(1, s, num_heads, head_dim)` of queries or of keys."""

    def __init__(self, spec: HeadNorm, num_heads: int, head_dim: int, dtype: str) -> None:
        self.spec = spec
        self.weight = nn.Parameter(spec.shape(num_heads, head_dim), dtype)
        self.bias = nn.Parameter(spec.shape(num_heads, head_dim), dtype) if spec.bias else None

    def forward(self, heads: nn.Tensor) -> nn.Tensor:
        if self.spec.scope != "all_heads":
            return self._normalized(heads)
        _, num_tokens, num_heads, head_dim = heads.shape
        return self._normalized(heads.reshape(1, num_tokens, num_heads * head_dim)).reshape(*heads.shape)

    def _normalized(self, rows: nn.Tensor) -> nn.Tensor:
        """Normalises the last dimension in float32, as the operators do for themselves."""
        width, epsilon = int(rows.shape[-1]), self.spec.epsilon
        if self.spec.kind == "layer":
            rows = nn.op.layer_norm(rows, width, eps=epsilon)
        else:
            rows = nn.op.rms_norm(rows, nn.op.ones((width,), rows.dtype), [-1], epsilon)
        rows = rows * self.weight
        return rows if self.bias is None else rows + self.bias

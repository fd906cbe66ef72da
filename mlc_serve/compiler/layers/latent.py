"""The products of latent attention on the CPU that each head has of its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from tvm import tirx
from tvm.relax.frontend import nn

from mlc_serve.compiler.kernels.cpu.attention.latent import latent_queries, latent_values
from mlc_serve.compiler.kernels.cpu.experts.arithmetic import Arithmetic
from mlc_serve.compiler.layers.norm import RowNorm
from mlc_serve.compiler.layers.stacked_weight import StackedWeight
from mlc_serve.models.parts.latent_attention import LatentAttention

# A model has many layers of one shape: each kernel is parsed once.
_queries: Callable[..., tirx.PrimFunc] = lru_cache(maxsize=None)(latent_queries)
_values: Callable[..., tirx.PrimFunc] = lru_cache(maxsize=None)(latent_values)


class LatentHeads(nn.Module):
    """Implements models.layers.LatentHeads. Attention takes and returns `dtype`."""

    def __init__(self, part: LatentAttention, arithmetic: Arithmetic, dtype: str) -> None:
        heads, rank = part.num_heads, part.kv_lora_rank
        self._part, self._arithmetic, self._dtype = part, arithmetic, dtype
        self.norm = RowNorm(part.latent_norm)
        self.k_up_proj = StackedWeight(heads, (rank, part.qk_nope_head_dim), arithmetic)
        self.v_up_proj = StackedWeight(heads, (part.v_head_dim, rank), arithmetic)

    def queries_and_key(self, queries: nn.Tensor, latents: nn.Tensor) -> nn.Tensor:
        part, rows = self._part, queries.shape[1]
        by_head = queries.reshape(1, rows, part.num_heads, part.q_head_dim)
        kernel = _queries(part, self._arithmetic, self._dtype)
        operands = [by_head, latents, self.norm.weight, *self.k_up_proj.parameters_of()]
        out = nn.Tensor.placeholder([1, rows, part.num_heads + 1, part.shape.head_dim], self._dtype)
        return nn.op.tensor_ir_op(kernel, "latent_queries", operands, out)

    def values(self, attended: nn.Tensor) -> nn.Tensor:
        part, rows = self._part, attended.shape[1]
        by_head = attended.reshape(1, rows, part.num_heads, part.kv_lora_rank)
        kernel = _values(part, self._arithmetic, self._dtype)
        out = nn.Tensor.placeholder([1, rows, part.num_heads, part.v_head_dim], "float32")
        operands = [by_head, *self.v_up_proj.parameters_of()]
        values: nn.Tensor = nn.op.tensor_ir_op(kernel, "latent_values", operands, out)
        return values.reshape(1, rows, part.value_width)

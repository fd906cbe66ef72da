"""The layers that an architecture is built from. The compiler supplies them, made for a device and a
quantization scheme.

Activations have the shape `(1, s, width)`: the tokens of all sequences of a batch, one after another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from tvm import tirx
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn.llm.kv_cache import PagedKVCache

from mlc_serve.models.attention import AttentionShape
from mlc_serve.models.parts.experts import Experts


@dataclass(frozen=True)
class CacheSize:
    """The sizes of a KV cache, which are known only when it is created at run time."""

    max_batch_size: tirx.Var
    max_total_seq_len: tirx.Var
    prefill_chunk_size: tirx.Var
    page_size: tirx.Var
    support_sliding_window: tirx.Var


class Linear(Protocol):
    """A product with a weight, plus a bias if the layer was made with one. It takes a tensor, or what a norm
    returns.
    """

    def __call__(self, x: Any) -> nn.Tensor:
        """`(1, s, in)` -> `(1, s, out)`."""

    def add_to(self, residual: nn.Tensor, x: Any) -> nn.Tensor:
        """Residual + self(x)."""

    def gated(self, x: Any) -> nn.Tensor:
        """SiLU(first half of self(x)) * second half, `(1, s, out / 2)`. The layer must be
        made with gated=True.
        """


class Embedding(Protocol):
    """A table of token embeddings, which can also serve as the LM head."""

    def __call__(self, ids: nn.Tensor) -> nn.Tensor:
        """Ids `(s,)` -> `(s, width)`."""

    def logits(self, x: Any) -> nn.Tensor:
        """`(1, s, width)` -> `(1, s, vocab)`, with the embeddings as weights."""


class ExpertLayer(Protocol):
    """A mixture of experts."""

    def add_to(self, residual: nn.Tensor, x: Any) -> nn.Tensor:
        """Residual + what the experts make of x, which is a tensor `(1, s, width)` or what a norm returns."""


class Layers(Protocol):
    """Makes the layers of a model."""

    dtype: str  # of activations
    attention_dtype: str  # of queries, keys and values, and of attention's result
    norms_are_lazy: bool  # whether the layer that takes a norm's result computes it
    bfloat16_products: bool  # whether kernels multiply in bfloat16 where that was measured to be faster

    def linear(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = False,
        gated: bool = False,
        dtype: str = ...,
    ) -> Linear:
        """A linear layer whose result has the type `dtype`. Pass gated=True if .gated() will be called."""

    def embedding(self, vocab_size: int, width: int) -> Embedding:
        """An embedding table."""

    def experts(self, spec: Experts, hidden: int) -> ExpertLayer:
        """A mixture of experts for tokens of `hidden` values. `spec.weights` names its parameters."""

    def rms_norm(self, width: int, epsilon: float) -> nn.Module:
        """A module that normalises and scales `(1, s, width)`, into the form that linear layers read best."""

    def head_norm(self, width: int, epsilon: float) -> nn.Module:
        """A norm for `normalize_heads`, of heads of `width` values: a module with the parameter `weight`."""

    def normalize_heads(
        self, qkv: nn.Tensor, q_norm: nn.Module, k_norm: nn.Module, shape: AttentionShape
    ) -> nn.Tensor:
        """Queries, keys and values `(1, s, num_heads, head_dim)` of the type `dtype` -> the same in
        `attention_dtype`, with each head of queries and of keys normalised by itself.
        """

    def kv_cache(self, shape: AttentionShape, size: CacheSize) -> PagedKVCache:
        """The KV cache, with the attention kernels that read it."""

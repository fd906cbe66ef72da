"""What an architecture is assembled from. The compiler supplies it, made for a device and a quantization
scheme.

Activations have the shape `(1, s, width)`: the tokens of all sequences of a batch, one after another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from tvm import tirx
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn.llm.kv_cache import PagedKVCache

from mlc_serve.models.llama_config import AttentionShape


@dataclass(frozen=True)
class CacheSize:
    """The symbolic sizes that a KV cache is created with at run time."""

    max_batch_size: tirx.Var
    max_total_seq_len: tirx.Var
    prefill_chunk_size: tirx.Var
    page_size: tirx.Var
    support_sliding_window: tirx.Var


class Linear(Protocol):
    """A product with a weight, plus a bias if it was made with one. It takes what a norm gives."""

    def __call__(self, x: Any) -> nn.Tensor:
        """`(1, s, in)` -> `(1, s, out)`."""

    def add_to(self, residual: nn.Tensor, x: Any) -> nn.Tensor:
        """Residual + self(x)."""

    def gated(self, x: Any) -> nn.Tensor:
        """SiLU(first half of self(x)) * second half, `(1, s, out / 2)`, of one made for that."""


class Embedding(Protocol):
    """Token embeddings, which can be the LM head as well."""

    def __call__(self, ids: nn.Tensor) -> nn.Tensor:
        """Ids `(s,)` -> `(s, width)`."""

    def logits(self, x: Any) -> nn.Tensor:
        """`(1, s, width)` -> `(1, s, vocab)`, with the embeddings as weights."""


class Layers(Protocol):
    """The maker of all parts."""

    dtype: str  # of activations
    attention_dtype: str  # of queries, keys and values, and of what attention makes of them
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
        """A linear layer; `gated` for one whose `gated` is called, `dtype` of what it gives."""

    def embedding(self, vocab_size: int, width: int) -> Embedding:
        """An embedding table."""

    def rms_norm(self, width: int, epsilon: float) -> nn.Module:
        """`(1, s, width)` -> the same, normalised and scaled, in the form that linear layers like best."""

    def kv_cache(self, shape: AttentionShape, size: CacheSize) -> PagedKVCache:
        """The cache object, with the attention kernels that read it."""

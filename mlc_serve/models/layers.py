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

from mlc_serve.models.parts.activation import Activation
from mlc_serve.models.parts.attention import AttentionShape
from mlc_serve.models.parts.experts import Experts
from mlc_serve.models.parts.head_norm import HeadNorm
from mlc_serve.models.parts.latent_attention import LatentAttention
from mlc_serve.models.parts.norm import Norm
from mlc_serve.models.recurrent_layers import RecurrentLayers


@dataclass(frozen=True)
class CacheSize:
    """The sizes of TVM's KV cache, which are known only when it is created at run time."""

    max_batch_size: tirx.Var
    max_total_seq_len: tirx.Var
    prefill_chunk_size: tirx.Var
    page_size: tirx.Var
    support_sliding_window: tirx.Var


class RowNorm(Protocol):
    """A norm of rows `(1, s, width)`."""

    def __call__(self, x: nn.Tensor) -> Any:
        """The normalised rows in the form that linear layers read best, which only they can read."""

    def rows(self, x: nn.Tensor) -> nn.Tensor:
        """The normalised rows."""

    def add_to(self, residual: nn.Tensor, x: nn.Tensor) -> nn.Tensor:
        """Residual + rows(x)."""


class Linear(Protocol):
    """A product with a weight, plus a bias if the layer was made with one. It takes a tensor, or what a norm
    returns.
    """

    def __call__(self, x: Any) -> nn.Tensor:
        """`(1, s, in)` -> `(1, s, out)`. A layer that was made gated may be unable to do it."""

    def add_to(self, residual: nn.Tensor, x: Any, scale: float = 1.0) -> nn.Tensor:
        """Residual + scale * self(x)."""

    def activated(self, x: Any) -> nn.Tensor:
        """Activation(self(x)), or if the layer is gated, activation(first half of self(x)) * second half,
        `(1, s, out / 2)`. The layer must be made with an activation.
        """


class Embedding(Protocol):
    """A table of token embeddings, which can also serve as the LM head."""

    def __call__(self, ids: nn.Tensor) -> nn.Tensor:
        """Ids `(s,)` -> their rows times the table's scale, `(s, width)`."""

    def logits(self, x: Any) -> nn.Tensor:
        """`(1, s, width)` -> `(1, s, vocab)`, with the embeddings, not scaled, as weights."""


class Table(Protocol):
    """A table of learned positions."""

    def add_to(self, x: nn.Tensor, positions: nn.Tensor) -> nn.Tensor:
        """X `(1, s, width)` plus the row of each position, which must be in the table. Of the positions,
        int32, the first s count.
        """


class State(Protocol):
    """What functions get as their argument `state`, for the modules that read and write it."""

    recurrent: Any  # a RecurrentPass, if there are recurrent layers

    def positions(self, num_tokens: Any) -> nn.Tensor:
        """The positions of the new tokens in their sequences, int32. There may be more than `num_tokens`."""

    def returned(self, result: Any) -> Any:
        """What a function returns, whose result is `result`: a tensor, or a tuple of them."""


class CacheMaker(Protocol):
    """Makes the state of functions that take TVM's KV cache."""

    def kv_cache(self, shape: AttentionShape, size: CacheSize) -> PagedKVCache:
        """The KV cache, with the attention kernels that read it."""


class ExpertLayer(Protocol):
    """A mixture of experts."""

    def add_to(self, residual: nn.Tensor, x: Any) -> nn.Tensor:
        """Residual + what the experts make of x, which is a tensor `(1, s, width)` or what a norm returns."""


class LatentHeads(Protocol):
    """What each head of latent attention has of its own."""

    def queries_and_key(self, queries: nn.Tensor, latents: nn.Tensor) -> nn.Tensor:
        """Queries `(1, s, q_width)`, and `(1, s, r + c)`, of which keys are made -> what the attention of the
        part's shape takes, `(1, s, num_heads + 1, r + c)`.
        """

    def values(self, attended: nn.Tensor) -> nn.Tensor:
        """What attention returns -> the heads' values `(1, s, value_width)`."""


class Layers(Protocol):
    """Makes the layers of a model."""

    dtype: str  # of activations
    attention_dtype: str  # of queries, keys and values, and of attention's result
    cache_maker: CacheMaker | None  # if the state is TVM's KV cache, which a function of the library makes
    norms_are_lazy: bool  # whether the layer that takes a norm's result computes it
    bfloat16_products: bool  # whether kernels multiply in bfloat16 where that was measured to be faster

    def linear(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = False,
        activation: Activation | None = None,
        gated: bool = False,
        dtype: str = ...,
    ) -> Linear:
        """A linear layer whose result has the type `dtype`. Pass an activation if .activated() will be
        called, and gated=True if the first half of its columns gates the second.
        """

    def experts(self, spec: Experts, hidden: int) -> ExpertLayer:
        """A mixture of experts for tokens of `hidden` values. `spec.weights` names its parameters."""

    def embedding(self, vocab_size: int, width: int, *, scale: float = 1.0) -> Embedding:
        """An embedding table, whose rows are multiplied by `scale` where they are looked up."""

    def table(self, num_rows: int, width: int) -> Table:
        """A table of learned positions."""

    def norm(self, spec: Norm) -> RowNorm:
        """A norm of rows."""

    def soften(self, logits: nn.Tensor, scale: float, cap: float | None) -> nn.Tensor:
        """Logits `(1, s, vocab)` float32 -> x = scale * logits, or with a cap, cap * tanh(x / cap)."""

    def head_norm(self, spec: HeadNorm, num_heads: int, head_dim: int) -> nn.Module:
        """A norm for `normalize_heads`, of the queries or of the keys, with the weights that `spec` says."""

    def normalize_heads(
        self, qkv: nn.Tensor, q_norm: nn.Module, k_norm: nn.Module, shape: AttentionShape
    ) -> nn.Tensor:
        """Queries, keys and values `(1, s, num_heads, head_dim)` of the type `dtype` -> the same in
        `attention_dtype`, with the queries normalised by `q_norm` and the keys by `k_norm`, of one kind.
        """

    def attention(self, shape: AttentionShape, layer: int) -> nn.Module:
        """The attention of a layer: a module (qkv, state) that takes queries, keys and values
        `(1, s, num_heads, head_dim)` of new tokens, in `attention_dtype`, adds the keys and values to the
        state, and returns `(1, s, out_width)`. If the shape has sinks, the parameter `sinks` has their
        scores.
        """

    def latent_heads(self, spec: LatentAttention) -> LatentHeads:
        """The products of latent attention that each head has of its own, and the norm of latents."""

    def state_spec(self, shape: AttentionShape) -> Any:
        """The type of the argument `state`, for nn.spec.ModuleSpec."""

    def state(self, argument: Any, *, one_token_each: bool) -> State:
        """The argument as modules take it. With `one_token_each`, each sequence has one new token."""

    def recurrent(self) -> RecurrentLayers:
        """The layers that only recurrent models have. Raises CheckpointError for a device without them."""

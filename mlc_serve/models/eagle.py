"""EAGLE: a model of one layer that drafts from the hidden states of another model, its target.

It takes pairs of a token's embedding e and the state g of the token before it. With A attention, M an MLP,
H a head, F a product, N norms of the draft model and T the target's last norm:

    EAGLE-1 (Li et al., 2024)   g = T(state),     x = F(e, g),  y = x + A(x),           logits = H(z)
    EAGLE-3 (Li et al., 2025)   g = F(states),                  y = g + A(N(e), N(g)),  logits = H(N(z))

where z = y + M(N(y)) in both. This is how g follows from the target; behind a token that was drafted, g is
the z of the pair before it, because the target has not computed that token yet.

The embeddings and the head that a checkpoint leaves out are the target's. TVM is imported only when a model
is built.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mlc_serve.config.sliding_window import SlidingWindow
from mlc_serve.models.decoder import Decoder
from mlc_serve.models.parts.attention import Attention, AttentionShape
from mlc_serve.models.parts.mlp import MLP
from mlc_serve.models.parts.named_shapes import NamedShape, product_weights
from mlc_serve.models.parts.norm import Norm
from mlc_serve.models.weight_names import WeightNames

if TYPE_CHECKING:
    from mlc_serve.models.layers import Layers
    from mlc_serve.models.modules.eagle import EagleModule

# The parts whose weights are the target's, under the names that they have there.
_TARGET_PARTS = ("model.embed_tokens", "model.norm", "lm_head")

# Whether the target's states are normalised before the product: all of a token as one row, or those of each
# tap.
StateNorms = Literal["joint", "each"]


def is_of_target(weight: str) -> bool:
    """Whether a weight of an Eagle is one of its target."""
    return weight.rpartition(".")[0] in _TARGET_PARTS


@dataclass(frozen=True)
class Eagle:
    """Implements architecture.Architecture. All of its own norms but those of states are like `norm`.

    The states are those of the target's `taps` (see `models.taps`). The first `draft_vocab_size` columns of
    the logits belong to tokens that the checkpoint lists, or to all tokens if that is their number. With
    `normed_residual`, EAGLE-3 has N(g) as the residual in the place of g, and with `feeds_normed`, N(z) is
    the next g in the place of z.
    """

    target: Decoder
    generation: Literal[1, 3]
    names: WeightNames
    taps: tuple[int, ...]
    self_attn: Attention
    mlp: MLP
    norm: Norm
    draft_vocab_size: int
    fc_bias: bool = False
    state_norms: StateNorms | None = None
    normed_residual: bool = False
    feeds_normed: bool = False
    has_embedding: bool = False
    has_head: bool = False

    @property
    def vocab_size(self) -> int:
        """See Architecture. The tokens are the target's, and the logits may be those of fewer."""
        return self.target.vocab_size

    @property
    def context_window_size(self) -> int:
        """See Architecture. Sequences are as long as the target's."""
        return self.target.context_window_size

    @property
    def window(self) -> SlidingWindow | None:
        """See Architecture. All pairs are seen, whatever the target sees."""
        return None

    @property
    def hidden_size(self) -> int:
        """The width of a row of activations."""
        return self.norm.width

    @property
    def states_width(self) -> int:
        """How many values of the target's states a token has."""
        return len(self.taps) * self.target.hidden_size

    @property
    def joint_norm(self) -> Norm:
        """The norm of all states of a token."""
        return Norm("rms", self.states_width, self.norm.epsilon)

    @property
    def tap_norm(self) -> Norm:
        """The norm of the state of one tap."""
        return Norm("rms", self.target.hidden_size, self.norm.epsilon)

    @property
    def attention_width(self) -> int:
        """How many values attention takes of each token."""
        return self.hidden_size if self.generation == 1 else 2 * self.hidden_size

    @property
    def fc_width(self) -> int:
        """How many values the product F takes of each token."""
        return 2 * self.hidden_size if self.generation == 1 else self.states_width

    @property
    def uses_target_table(self) -> bool:
        """Whether the target's embeddings serve as embeddings or as head."""
        return not self.has_embedding or (not self.has_head and self.target.head.is_tied)

    @property
    def uses_target_head(self) -> bool:
        """Whether the head is the target's, and not its embeddings."""
        return not self.has_head and not self.target.head.is_tied

    @property
    def attention(self) -> AttentionShape:
        """See Architecture."""
        return self.self_attn.shape

    @property
    def recurrence(self) -> None:
        """See Architecture."""
        return None

    @property
    def workspace_width(self) -> int:
        """See Architecture. What is joined is there twice."""
        inner = self.self_attn.workspace_width + self.mlp.workspace_width(self.hidden_size)
        return 2 * max(self.states_width, 2 * self.hidden_size) + 4 * self.hidden_size + inner

    def weights(self) -> Iterator[NamedShape]:
        """See Architecture."""
        yield from self._target_weights()
        if self.has_embedding:
            yield "embed_tokens.weight", (self.vocab_size, self.hidden_size)
        yield from self._fc_weights()
        yield from self._layer_weights("layers.0")
        if self.generation == 3:
            yield from self.norm.weights("norm")
        if self.has_head:
            yield "draft_head.weight", (self.draft_vocab_size, self.hidden_size)

    def _target_weights(self) -> Iterator[NamedShape]:
        table = (self.target.vocab_size, self.target.hidden_size)
        if self.uses_target_table:
            yield "model.embed_tokens.weight", table
        if self.generation == 1:
            yield from self.target.norm.weights("model.norm")
        if self.uses_target_head:
            yield "lm_head.weight", table
            if self.target.head.bias:
                yield "lm_head.bias", table[:1]

    def _fc_weights(self) -> Iterator[NamedShape]:
        if self.state_norms == "joint":
            yield from self.joint_norm.weights("input_norm")
        if self.state_norms == "each":
            for number in range(len(self.taps)):
                yield from self.tap_norm.weights(f"fc_norm.{number}")
        yield from product_weights("fc", self.hidden_size, self.fc_width, bias=self.fc_bias)

    def _layer_weights(self, name: str) -> Iterator[NamedShape]:
        if self.generation == 3:
            yield from self.norm.weights(f"{name}.input_layernorm")
            yield from self.norm.weights(f"{name}.hidden_norm")
        yield from self.self_attn.weights(f"{name}.self_attn", self.hidden_size, self.attention_width)
        yield from self.norm.weights(f"{name}.post_attention_layernorm")
        yield from self.mlp.weights(f"{name}.mlp", self.hidden_size)

    def build(self, layers: Layers) -> EagleModule:
        """See Architecture."""
        from mlc_serve.models.modules.eagle import EagleModule  # noqa: PLC0415 - needs TVM's compiler

        return EagleModule(self, layers)

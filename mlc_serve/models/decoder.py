"""A decoder, as the parts that it is made of. TVM is imported only when a model is built."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlc_serve.config.sliding_window import SlidingWindow
from mlc_serve.models.parts.attention import Attention, AttentionShape
from mlc_serve.models.parts.block import Block
from mlc_serve.models.parts.ends import Embedding, Head
from mlc_serve.models.parts.latent_attention import LatentAttention
from mlc_serve.models.parts.named_shapes import NamedShape
from mlc_serve.models.parts.norm import Norm
from mlc_serve.models.parts.recurrent import RecurrentShape
from mlc_serve.models.weight_names import WeightNames

if TYPE_CHECKING:
    from mlc_serve.models.layers import Layers
    from mlc_serve.models.modules.decoder import DecoderModule
    from mlc_serve.models.modules.hybrid import HybridModule


@dataclass(frozen=True)
class Decoder:
    """Implements architecture.Architecture. `norm` is the one before the head, and `window` the one through
    which whole sequences are seen, which the layers have, too. Of the layers `taps` the states are given
    beside logits (see `models.taps`).
    """

    vocab_size: int
    context_window_size: int
    names: WeightNames
    embedding: Embedding
    blocks: tuple[Block, ...]
    norm: Norm
    head: Head
    window: SlidingWindow | None = None
    taps: tuple[int, ...] = ()

    @property
    def hidden_size(self) -> int:
        """The width of a row of activations."""
        return self.norm.width

    @property
    def attention(self) -> AttentionShape:
        """See Architecture."""
        return attention_of(self.blocks)

    @property
    def recurrence(self) -> RecurrentShape | None:
        """See Architecture."""
        parts = [
            block.attention
            for block in self.blocks
            if not isinstance(block.attention, Attention | LatentAttention)
        ]
        return RecurrentShape(len(parts), parts[0].states) if parts else None

    @property
    def places(self) -> tuple[int, ...]:
        """The number of each layer among those that have a state of the same kind."""
        kinds = [type(block.attention) for block in self.blocks]
        return tuple(kinds[:layer].count(kind) for layer, kind in enumerate(kinds))

    @property
    def workspace_width(self) -> int:
        """See Architecture. The states of taps stay until the pass ends."""
        return max(block.workspace_width for block in self.blocks) + len(self.taps) * self.hidden_size

    def weights(self) -> Iterator[NamedShape]:
        """See Architecture."""
        yield "model.embed_tokens.weight", (self.vocab_size, self.hidden_size)
        if self.embedding.num_positions is not None:
            yield "model.embed_positions.weight", (self.embedding.num_positions, self.hidden_size)
        for number, block in enumerate(self.blocks):
            yield from block.weights(f"model.layers.{number}")
        yield from self.norm.weights("model.norm")
        if not self.head.is_tied:
            yield "lm_head.weight", (self.vocab_size, self.hidden_size)
            if self.head.bias:
                yield "lm_head.bias", (self.vocab_size,)

    def build(self, layers: Layers) -> DecoderModule | HybridModule:
        """See Architecture."""
        from mlc_serve.models.modules.decoder import DecoderModule  # noqa: PLC0415 - needs TVM's compiler
        from mlc_serve.models.modules.hybrid import HybridModule  # noqa: PLC0415 - needs TVM's compiler

        if self.recurrence is None:
            return DecoderModule(self, layers)
        return HybridModule(self, self.recurrence, layers)


def attention_of(blocks: Sequence[Block]) -> AttentionShape:
    """The attention of the blocks that attend, which is the same for all of them."""
    return next(
        block.attention.shape for block in blocks if isinstance(block.attention, Attention | LatentAttention)
    )

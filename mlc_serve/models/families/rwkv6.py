"""RWKV-6 "Finch" (Peng et al., 2024), a recurrent model: each layer keeps the last row that it has seen, and
a matrix for each head, whatever the length of a sequence.

A rescaling that keeps float16 from overflowing is left out for Hugging Face's checkpoints, which are stored
without it. In MLC's directories it is part of the weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlc_serve.errors import CheckpointError
from mlc_serve.models.config_values import Config, flag, index, number, size
from mlc_serve.models.parts.attention import AttentionShape
from mlc_serve.models.parts.named_shapes import NamedShape
from mlc_serve.models.parts.norm import Norm
from mlc_serve.models.parts.recurrent import RecurrentShape
from mlc_serve.models.weight_names import WeightNames, renamed

if TYPE_CHECKING:
    from mlc_serve.models.layers import Layers
    from mlc_serve.models.modules.rwkv6 import RWKV6Module

_HEAD_SIZE = 64
_HEAD_SIZE_DIVISOR = 8
# No position limits a sequence. Without a limit of its own, a reply that never ends would.
_CONTEXT_WINDOW = 32768
_MLC_VERSION = "model_version"  # a key that only MLC's configurations have
# The parts of a token's mix with the one before it that depend on the token, in the order of their matrices.
MIXED = ("w", "k", "v", "r", "g")


@dataclass(frozen=True)
class RWKV6:
    """Implements architecture.Architecture.

    `mix_rank` and `decay_rank` are the ranks of the matrices that make mixes and decays depend on the token.
    The residual is halved after every `halve_every` layers, or never if that is 0.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    head_size: int
    mix_rank: int
    decay_rank: int
    norm: Norm
    group_norm_epsilon: float
    halve_every: int
    context_window_size: int

    @property
    def names(self) -> WeightNames:
        """The module has MLC's names."""
        return WeightNames(huggingface=(renamed("model", "rwkv"),))

    @property
    def window(self) -> None:
        """Sequences are seen whole."""
        return

    @property
    def attention(self) -> AttentionShape:
        """No layer attends."""
        return AttentionShape(num_q_heads=0, num_kv_heads=0, head_dim=0, layers=(), scale=1.0)

    @property
    def num_heads(self) -> int:
        """Heads of a layer."""
        return self.hidden_size // self.head_size

    @property
    def recurrence(self) -> RecurrentShape:
        """The last rows that the time mix and the channel mix have seen, with the heads' matrices between."""
        hidden, head = self.hidden_size, self.head_size
        return RecurrentShape(self.num_layers, ((hidden,), (self.num_heads, head, head), (hidden,)))

    @property
    def workspace_width(self) -> int:
        """The residual, its norm, the five mixes and their changes, their products, and the channel mix."""
        return 20 * self.hidden_size + 2 * self.intermediate_size

    def weights(self) -> Iterator[NamedShape]:
        """See Architecture."""
        yield "model.embeddings.weight", (self.vocab_size, self.hidden_size)
        for layer in range(self.num_layers):
            for name, shape in self._layer_weights(layer):
                yield f"model.blocks.{layer}.{name}", shape
        yield from self.norm.weights("model.ln_out")
        yield "head.weight", (self.vocab_size, self.hidden_size)

    def build(self, layers: Layers) -> RWKV6Module:
        """See Architecture."""
        from mlc_serve.models.modules.rwkv6 import RWKV6Module  # noqa: PLC0415 - needs TVM's compiler

        return RWKV6Module(self, layers)

    def _layer_weights(self, layer: int) -> Iterator[NamedShape]:
        hidden, inner = self.hidden_size, self.intermediate_size
        if layer == 0:
            yield from self.norm.weights("pre_ln")
        yield from self.norm.weights("ln1")
        for part in ("x", *MIXED):
            yield f"attention.time_maa_{part}", (1, 1, hidden)
        yield "attention.time_maa_w1", (hidden, len(MIXED) * self.mix_rank)
        yield "attention.time_maa_w2", (len(MIXED), self.mix_rank, hidden)
        yield "attention.time_decay_w1", (hidden, self.decay_rank)
        yield "attention.time_decay_w2", (self.decay_rank, hidden)
        yield "attention.time_decay", (1, 1, hidden)
        yield "attention.time_faaaa", (self.num_heads, self.head_size)
        for part in ("receptance", "key", "value", "gate", "output"):
            yield f"attention.{part}.weight", (hidden, hidden)
        yield from self.norm.weights("attention.ln_x")
        yield from self.norm.weights("ln2")
        for part in ("k", "r"):
            yield f"feed_forward.time_maa_{part}", (1, 1, hidden)
        yield "feed_forward.key.weight", (inner, hidden)
        yield "feed_forward.receptance.weight", (hidden, hidden)
        yield "feed_forward.value.weight", (hidden, inner)


def read_rwkv6(config: Config) -> RWKV6:
    """See FAMILIES."""
    _check(config)
    hidden = size(config, "hidden_size")
    divisor = size(config, "head_size_divisor", _HEAD_SIZE_DIVISOR)
    return RWKV6(
        vocab_size=size(config, "vocab_size"),
        hidden_size=hidden,
        intermediate_size=size(config, "intermediate_size", hidden * 7 // 2 // 32 * 32),
        num_layers=size(config, "num_hidden_layers"),
        head_size=size(config, "head_size", _HEAD_SIZE),
        mix_rank=64 if hidden == 4096 else 32,
        decay_rank=128 if hidden == 4096 else 64,
        norm=Norm("layer", hidden, number(config, "layer_norm_epsilon", 0, 1, 1e-5), bias=True),
        group_norm_epsilon=1e-5 * divisor**2,
        halve_every=index(config, "rescale_every", 0) if _MLC_VERSION in config else 0,
        context_window_size=_context_window(config),
    )


def _check(config: Config) -> None:
    if config.get(_MLC_VERSION, "6_0") != "6_0":
        raise CheckpointError(f"{_MLC_VERSION} {config[_MLC_VERSION]!r} is not supported, only '6_0'")
    hidden, head = size(config, "hidden_size"), size(config, "head_size", _HEAD_SIZE)
    if size(config, "attention_hidden_size", hidden) != hidden:
        raise CheckpointError(
            f"attention_hidden_size {config['attention_hidden_size']} must be hidden_size, {hidden}"
        )
    if hidden % head:
        raise CheckpointError(f"head_size: heads of {head} values can't share hidden_size {hidden}")
    if size(config, "num_heads", hidden // head) != hidden // head:
        raise CheckpointError(
            f"num_heads must be {hidden // head}, the heads of {head} values that hidden_size {hidden} has"
        )
    if flag(config, "tie_word_embeddings"):
        raise CheckpointError("tie_word_embeddings: RWKV-6 with tied embeddings is not supported")


def _context_window(config: Config) -> int:
    """A limit that the configuration states, if it states one. MLC writes -1 for none."""
    stated: Any = config.get("context_window_size")
    if stated in (None, -1):
        return size(config, "context_length", _CONTEXT_WINDOW)
    return size(config, "context_window_size")

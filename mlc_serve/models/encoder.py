"""The dimensions of BERT and of the families that differ from it only in names and in how they count
positions. TVM is imported only when a model is built.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from mlc_serve.errors import CheckpointError
from mlc_serve.models.config_values import Config, flag, number, size
from mlc_serve.models.parts.named_shapes import NamedShape
from mlc_serve.models.parts.norm import Norm
from mlc_serve.models.weight_changes import SomeRows
from mlc_serve.models.weight_names import Renaming, WeightNames, renamed

if TYPE_CHECKING:
    from mlc_serve.models.encoder_layers import EncoderLayers
    from mlc_serve.models.modules.encoder import EncoderModule

_PARTS = ("query", "key", "value")
_CROSS_ENCODER = "ForSequenceClassification"


@dataclass(frozen=True)
class Encoder:
    """A post-norm transformer whose tokens all see each other: it has no cache, and makes no logits.

    Positions are learned, and the first token has position `first_position`.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_positions: int
    first_position: int
    num_token_types: int
    layer_norm_eps: float

    @classmethod
    def from_config(cls, config: Config, *, first_position: int = 0) -> Encoder:
        """Read the keys of config.json.

        Raises CheckpointError, which names the key, if a key is missing or malformed, or asks for something
        that this encoder does not have.
        """
        _check_kind(config)
        read = cls(
            vocab_size=size(config, "vocab_size"),
            hidden_size=size(config, "hidden_size"),
            intermediate_size=size(config, "intermediate_size"),
            num_layers=size(config, "num_hidden_layers"),
            num_heads=size(config, "num_attention_heads"),
            num_positions=size(config, "max_position_embeddings", size(config, "context_window_size", 512)),
            first_position=first_position,
            num_token_types=size(config, "type_vocab_size", 2),
            layer_norm_eps=number(config, "layer_norm_eps", 0, 1, 1e-12),
        )
        read._check_sizes()
        return read

    @property
    def norm(self) -> Norm:
        """Each of its norms."""
        return Norm("layer", self.hidden_size, self.layer_norm_eps, bias=True)

    @property
    def head_dim(self) -> int:
        """Values of a head."""
        return self.hidden_size // self.num_heads

    @property
    def context_window_size(self) -> int:
        """The most tokens that an input can have."""
        return self.num_positions - self.first_position

    @property
    def workspace_width(self) -> int:
        """How many values of activations a pass holds at once, for each of its tokens: residuals, queries,
        keys, values, attention's result, and the MLP.
        """
        return 7 * self.hidden_size + 2 * self.intermediate_size

    def weights(self) -> Iterator[NamedShape]:
        """The name and the shape of each weight."""
        hidden = self.hidden_size
        yield "embeddings.word_embeddings.weight", (self.vocab_size, hidden)
        yield "embeddings.position_embeddings.weight", (self.num_positions, hidden)
        yield "embeddings.token_type_embeddings.weight", (self.num_token_types, hidden)
        yield from self.norm.weights("embeddings.LayerNorm")
        for layer in range(self.num_layers):
            for name, shape in self._layer_weights():
                yield f"encoder.layer.{layer}.{name}", shape

    def build(self, layers: EncoderLayers) -> EncoderModule:
        """The module, made of `layers`. Needs TVM."""
        from mlc_serve.models.modules.encoder import EncoderModule  # noqa: PLC0415 - needs TVM's compiler

        return EncoderModule(self, layers)

    def _layer_weights(self) -> Iterator[NamedShape]:
        hidden, inner = self.hidden_size, self.intermediate_size
        for part in _PARTS:
            yield from _product(f"attention.self.{part}", hidden, hidden)
        yield from _product("attention.output.dense", hidden, hidden)
        yield from self.norm.weights("attention.output.LayerNorm")
        yield from _product("intermediate.dense", inner, hidden)
        yield from _product("output.dense", hidden, inner)
        yield from self.norm.weights("output.LayerNorm")

    def _check_sizes(self) -> None:
        if self.hidden_size % (2 * self.num_heads):
            raise CheckpointError(
                f"num_attention_heads: {self.num_heads} heads of an even width can't share "
                f"hidden_size {self.hidden_size}"
            )
        if self.context_window_size < 1:
            raise CheckpointError(
                f"max_position_embeddings: {self.num_positions} positions leave none for tokens, since the "
                f"first has position {self.first_position}"
            )


class EncoderFamily(NamedTuple):
    """Encoders that share a model_type. `read` raises CheckpointError, which names the key, for a
    configuration that no model of the family can have. All names of weights may begin with `prefix`, and
    those of a head, which makes no embeddings, begin with `head`.
    """

    read: Callable[[Config], Encoder]
    prefix: str
    head: str

    def names(self, encoder: Encoder) -> WeightNames:
        """What checkpoints call the weights of one of its models. MLC has one product for queries, keys and
        values.
        """
        width = encoder.hidden_size
        return WeightNames(
            mlc=tuple(_rows_of_mlc(part, number, width) for number, part in enumerate(_PARTS)),
            prefixes=(self.prefix,),
            unused=(rf"^{self.head}\.", r"(^|\.)pooler\.", r"(^|\.)embeddings\.(position|token_type)_ids$"),
        )


def _rows_of_mlc(part: str, number: int, width: int) -> Renaming:
    rows = SomeRows(tuple(range(number * width, (number + 1) * width)), num_stored=len(_PARTS) * width)
    return renamed(f"attention.self.{part}", "attention.self.qkv", change=rows)


def _product(name: str, num_rows: int, depth: int) -> Iterator[NamedShape]:
    yield f"{name}.weight", (num_rows, depth)
    yield f"{name}.bias", (num_rows,)


def _check_kind(config: Config) -> None:
    """Refuse other functions, other positions, and a head that scores pairs."""
    for key, only in (("hidden_act", "gelu"), ("position_embedding_type", "absolute")):
        value = config.get(key) or only
        if value != only:
            raise CheckpointError(f"{key} {reprlib.repr(value)} is not supported, only {only!r}")
    if flag(config, "is_decoder"):
        raise CheckpointError("is_decoder: an encoder that hides later tokens is not supported")
    architectures = config.get("architectures")
    if isinstance(architectures, list) and any(str(name).endswith(_CROSS_ENCODER) for name in architectures):
        raise CheckpointError(
            f"architectures: {reprlib.repr(architectures)} scores pairs of texts (a cross-encoder), which is "
            "not supported; serve an embedding model, whose cosine similarities rank texts as well"
        )

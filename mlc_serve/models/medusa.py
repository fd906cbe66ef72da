"""Medusa's heads (Cai et al., 2024): each guesses one of the next tokens of another model from a hidden state
of that model. TVM is imported only when they are built.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlc_serve.errors import CheckpointError
from mlc_serve.models.config_values import Config, size
from mlc_serve.models.parts.named_shapes import NamedShape, product_weights
from mlc_serve.models.weight_names import WeightNames, renamed

if TYPE_CHECKING:
    from mlc_serve.models.layers import Layers
    from mlc_serve.models.modules.medusa import MedusaModule

# In config.json of all of them. The published ones name no model_type.
HEADS_KEY = "medusa_num_heads"
_MOST_HEADS = 64
_MOST_BLOCKS = 64
_OWN = "medusa_head"
_BLOCK = re.compile(rf"^(?:{_OWN}\.)?(\d+)\.\d+\.linear\.weight$")


@dataclass(frozen=True)
class MedusaHeads:
    """Each head has `num_blocks` blocks, which make x + SiLU(product of x) of a state x, and then a product
    that makes logits. Its states are what the other model's last norm returns.
    """

    num_heads: int
    num_blocks: int
    hidden_size: int
    vocab_size: int

    @classmethod
    def from_config(cls, config: Config) -> MedusaHeads:
        """Read a configuration. Raises CheckpointError, which names the key."""
        return cls(
            num_heads=size(config, HEADS_KEY, up_to=_MOST_HEADS),
            num_blocks=size(config, "medusa_num_layers", 1, up_to=_MOST_BLOCKS),
            hidden_size=size(config, "hidden_size"),
            vocab_size=size(config, "vocab_size"),
        )

    @property
    def names(self) -> WeightNames:
        """What checkpoints call the weights. The names of published ones begin with the number of a head."""
        return WeightNames(huggingface=(renamed(_OWN, ""),), prefixes=(f"{_OWN}.",))

    @property
    def workspace_width(self) -> int:
        """How many values of activations a pass of a head holds at once, for each state."""
        return 3 * self.hidden_size + self.vocab_size

    def weights(self) -> Iterator[NamedShape]:
        """The name and the shape of each weight, in the order of the module's parameters."""
        for head in range(self.num_heads):
            for block in range(self.num_blocks):
                name = f"{_OWN}.{head}.{block}.linear"
                yield from product_weights(name, self.hidden_size, self.hidden_size, bias=True)
            yield f"{_OWN}.{head}.{self.num_blocks}.weight", (self.vocab_size, self.hidden_size)

    def build(self, layers: Layers) -> MedusaModule:
        """The module, made of `layers`. Needs TVM."""
        from mlc_serve.models.modules.medusa import MedusaModule  # noqa: PLC0415 - needs TVM's compiler

        return MedusaModule(self, layers)


def counted(config: Config, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """The configuration of published heads, with the numbers that the shapes of their tensors tell: it states
    neither the sizes nor, in many cases, the true number of heads.

    Raises CheckpointError if the heads have no product of their own that makes logits.
    """
    heads = [match[1] for match in map(_BLOCK.match, shapes) if match]
    num_blocks = heads.count("0")
    projection, first = (
        next((shapes[name] for name in (own, f"{_OWN}.{own}") if name in shapes), None)
        for own in (f"0.{num_blocks}.weight", "0.0.linear.weight")
    )
    if heads and projection is None:
        raise CheckpointError(
            f"there is no tensor 0.{num_blocks}.weight: heads that share the lm_head of the model that they "
            "draft for are not supported"
        )
    if first is None or projection is None or len(first) != 2 or len(projection) != 2:
        raise CheckpointError("there are no Medusa heads, whose tensors have names like 0.0.linear.weight")
    return {
        **config,
        HEADS_KEY: len(set(heads)),
        "medusa_num_layers": num_blocks,
        "hidden_size": first[1],
        "vocab_size": projection[0],
    }

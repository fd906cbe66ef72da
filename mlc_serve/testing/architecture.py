"""A fake family, whose models can be described but not compiled: enough for all that precedes compilation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

from mlc_serve.models.config_values import Config, size
from mlc_serve.models.parts.attention import AttentionLayer, AttentionShape
from mlc_serve.models.parts.named_shapes import NamedShape
from mlc_serve.models.rope_config import read_rope
from mlc_serve.models.weight_names import WeightNames, renamed

_HEAD_DIM = 8
_NAMES = WeightNames(
    huggingface=(renamed("mixer", "mixer_left", "mixer_right"),), mlc=(renamed("mixer", "mixer_of_mlc"),)
)


@dataclass(frozen=True)
class FakeArchitecture:
    """Implements models.architecture.Architecture: an embedding, and a mixer in each layer. Hugging Face's
    checkpoints store the mixer in two halves.
    """

    vocab_size: int
    width: int
    context_window_size: int
    attention: AttentionShape

    @property
    def names(self) -> WeightNames:
        """The halves of Hugging Face, and MLC's name."""
        return _NAMES

    @property
    def recurrence(self) -> None:
        """No layer keeps a recurrent state."""
        return

    @property
    def window(self) -> None:
        """Sequences are seen whole."""
        return

    @property
    def workspace_width(self) -> int:
        """The hidden states alone."""
        return self.width

    def weights(self) -> Iterator[NamedShape]:
        """The embedding and the mixers."""
        yield "embed.weight", (self.vocab_size, self.width)
        for layer in range(self.attention.num_layers):
            yield f"layers.{layer}.mixer.weight", (2 * self.width, self.width)

    def build(self, layers: object) -> NoReturn:
        """A fake can't be compiled."""
        raise RuntimeError(f"a fake architecture can't be built of {layers}")


def read_fake(config: Config) -> FakeArchitecture:
    """The architecture that a configuration describes."""
    layers = (AttentionLayer(read_rope(config)),) * size(config, "layers")
    return FakeArchitecture(
        vocab_size=size(config, "vocab"),
        width=size(config, "width"),
        context_window_size=size(config, "context", 64),
        attention=AttentionShape(1, 1, _HEAD_DIM, layers, scale=1.0),
    )

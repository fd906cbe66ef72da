"""What a family of models must state about itself, so that its models can be loaded, compiled and served.

To add a family, write one file in `families` that reads its configuration, and add one line to the table in
`table`. Reading a configuration must not import TVM, because a server of a compiled model reads one, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

from mlc_serve.config.sliding_window import SlidingWindow
from mlc_serve.models.config_values import Config
from mlc_serve.models.parts.attention import AttentionShape
from mlc_serve.models.parts.named_shapes import NamedShape
from mlc_serve.models.parts.recurrent import RecurrentShape
from mlc_serve.models.weight_names import WeightNames

if TYPE_CHECKING:
    from tvm.relax.frontend import nn

    from mlc_serve.models.layers import Layers


class Architecture(Protocol):
    """One model of a family, with the dimensions that its configuration states."""

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding table, and columns of the logits."""

    @property
    def context_window_size(self) -> int:
        """The most tokens that a sequence can have."""

    @property
    def window(self) -> SlidingWindow | None:
        """The window through which whole sequences are seen; None if there is none."""

    @property
    def attention(self) -> AttentionShape:
        """Heads, and for each layer that attends its positions and what it attends to; perhaps none does."""

    @property
    def recurrence(self) -> RecurrentShape | None:
        """The states that recurrent layers keep; None if there are none."""

    @property
    def workspace_width(self) -> int:
        """How many values of activations a forward pass holds at once, for each of its tokens."""

    @property
    def names(self) -> WeightNames:
        """What checkpoints call the weights."""

    def weights(self) -> Iterator[NamedShape]:
        """The name and the shape of each weight, in the order of the module's parameters. Matrices are
        `(N, K)`; products that are computed together have one weight.
        """

    def build(self, layers: Layers) -> nn.Module:
        """The module, made of `layers`. Its method `spec()` gives the functions to compile. Needs TVM."""


# Reads the configuration of a family's model. Raises CheckpointError, which names the key, for a
# configuration that no model of the family can have.
ReadArchitecture = Callable[[Config], Architecture]

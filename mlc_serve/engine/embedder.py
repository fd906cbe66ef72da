"""What an embedding engine asks of a model: the vectors of a batch of inputs.

Implemented on TVM by `mlc_serve.runtime`, and without a device by `mlc_serve.testing`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
TokenIds = npt.NDArray[np.int32]


@dataclass(frozen=True)
class EmbeddingLimits:
    """`context_length` bounds the tokens of one input. A batch has at most `max_batch_inputs` inputs and
    `max_batch_tokens` tokens, unless one input alone has more. `max_queued_requests` bounds the inputs that
    wait beyond those of one request of the largest size.
    """

    context_length: int
    max_batch_tokens: int
    max_batch_inputs: int
    max_queued_requests: int = 1024


class Embedder(Protocol):
    """A model that makes embeddings. It is called from the engine's thread only."""

    @property
    def width(self) -> int:
        """How many values a vector has."""

    def embed(self, inputs: Sequence[TokenIds]) -> Vectors:
        """Return one vector for each input, `(len(inputs), width)`, in memory of its own.

        No input is empty, longer than the context, or has a token that the model doesn't have.
        """

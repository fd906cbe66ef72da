"""An Embedder without a device, whose vectors tell what they were made of, and a model around it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from mlc_serve.engine.embedder import EmbeddingLimits, TokenIds, Vectors
from mlc_serve.engine.pooling import normalized
from mlc_serve.loaded_model import LoadedEmbeddingModel
from mlc_serve.testing.tokens import VOCAB_SIZE, byte_tokenizer


class FakeEmbedder:
    """Implements engine.embedder.Embedder. A vector counts the input's tokens by their ids modulo `width`,
    and is scaled to length 1.

    It waits for `gate`, which is open at first, and raises `failure` if a test has set one. `batches` has the
    lengths of the inputs of each batch, and `started` is set when a batch arrives.
    """

    def __init__(self, width: int = 16) -> None:
        self.width = width
        self.gate = threading.Event()
        self.gate.set()
        self.started = threading.Event()
        self.failure: Exception | None = None
        self.batches: list[list[int]] = []

    def embed(self, inputs: Sequence[TokenIds]) -> Vectors:
        """See Embedder.embed."""
        self.batches.append([len(ids) for ids in inputs])
        self.started.set()
        self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return normalized(
            np.stack([np.bincount(ids % self.width, minlength=self.width) for ids in inputs]).astype(
                np.float32
            )
        )


def fake_embedding_model(
    name: str = "fake-embedder", *, embedder: FakeEmbedder | None = None, **limits: Any
) -> LoadedEmbeddingModel:
    """Return a model on a FakeEmbedder, whose tokens are bytes after a begin token. Other keywords are fields
    of EmbeddingLimits.
    """
    fields: dict[str, Any] = {"context_length": 64, "max_batch_tokens": 128, "max_batch_inputs": 8}
    return LoadedEmbeddingModel(
        name=name,
        device="cpu",
        quantization="q0f32",
        embedder=embedder or FakeEmbedder(),
        limits=EmbeddingLimits(**(fields | limits)),
        tokenizer=byte_tokenizer(),
        vocab_size=VOCAB_SIZE,
    )

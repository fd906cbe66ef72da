"""Logits of a model whose vocabulary is padded differently from that of another one with the same tokens."""

from __future__ import annotations

import numpy as np

from mlc_serve.runtime.rows import Logits


def fitted(logits: Logits, vocab_size: int) -> Logits:
    """Return logits `(n, v)` as `(n, vocab_size)`, where tokens that the first has not are never drawn."""
    num_rows, width = logits.shape
    if width == vocab_size:
        return logits
    if width > vocab_size:
        return np.ascontiguousarray(logits[:, :vocab_size])
    padded = np.full((num_rows, vocab_size), -np.inf, np.float32)
    padded[:, :width] = logits
    return padded

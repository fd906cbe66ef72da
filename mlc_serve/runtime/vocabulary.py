"""Logits of a model whose vocabulary is padded differently from that of another one with the same tokens."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

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


def spread(logits: Logits, token_ids: npt.NDArray[np.int32], vocab_size: int) -> Logits:
    """Return logits `(n, v)` of the tokens `token_ids` `(v,)` as `(n, vocab_size)`, where other tokens are
    never drawn.
    """
    result = np.full((len(logits), vocab_size), -np.inf, np.float32)
    result[:, token_ids] = logits
    return result

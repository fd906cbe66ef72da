"""Whether tokens are greedy choices, on any processor.

Of two tokens that are as good as equally likely, rounding decides which is the likelier one, and with it all
that follows. Hence texts are not compared: each token must be a likeliest one, up to rounding, after those
that were really chosen before it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

ROUNDING = 1e-3  # nats


def shortfall(logits: NDArray[np.float32], tokens: Sequence[int]) -> float:
    """By how many nats the worst of `tokens` is less likely than the likeliest in its place.

    logits: `(len(tokens), vocab)`, or logprobs.
    """
    chosen = logits[np.arange(len(tokens)), np.asarray(tokens)]
    return float((logits.max(axis=1) - chosen).max())

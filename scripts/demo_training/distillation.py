"""The loss of what learns to predict the distributions of another model."""

from __future__ import annotations

import torch
from torch.nn.functional import log_softmax, softmax


def distillation_loss(logits: torch.Tensor, taught: torch.Tensor) -> torch.Tensor:
    """The cross entropy of distributions against those that are taught, in nats, summed over the rows.

    Both are given by their logits [n, v].
    """
    return -(softmax(taught.float(), -1) * log_softmax(logits.float(), -1)).sum()

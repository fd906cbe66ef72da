"""The interface of what is trained to draft for a model."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from demo_training.target import Observed


class Student(Protocol):
    """Learns to guess the next tokens of a target from what the target has read."""

    @property
    def module(self) -> nn.Module:
        """What is trained."""

    @property
    def matrices(self) -> list[nn.Parameter]:
        """Those of the parameters that are weight matrices, and neither embeddings nor heads."""

    def loss(self, observed: Observed) -> torch.Tensor:
        """The loss, summed over the tokens of the assistant."""

    def guesses(self, observed: Observed, most: int) -> list[torch.Tensor]:
        """Guesses number 0, 1, ..., at most `most` of them: int64 [n, m], as `observed.expected(number).ids`.

        A guess is made as if those before it were right.
        """

    def export(self, num_steps: int, directory: Path) -> None:
        """Write a directory that can be loaded beside the target, which `read_packed` reads as well. What it
        holds was trained for `num_steps`.
        """

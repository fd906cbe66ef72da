"""The ways to stretch rotary positions over longer contexts than a model was trained for, as transformers
computes them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

Frequencies = NDArray[np.float64]


class Scaling(Protocol):
    """A way to stretch positions."""

    @property
    def attention_factor(self) -> float:
        """The factor that the rotated dimensions of queries and of keys are each multiplied by."""

    def context_window(self, stated: int) -> int:
        """How many positions a model can use with this scaling, if its configuration states `stated`."""

    def scaled(self, frequencies: Frequencies, theta: float) -> Frequencies:
        """The frequencies that replace `frequencies`, those of the base `theta`."""


@dataclass(frozen=True)
class LinearScaling:
    """All positions are divided by a factor (Chen et al., 2023)."""

    attention_factor: ClassVar[float] = 1.0

    factor: float

    def context_window(self, stated: int) -> int:
        return stated

    def scaled(self, frequencies: Frequencies, theta: float) -> Frequencies:  # noqa: ARG002
        return frequencies / self.factor


@dataclass(frozen=True)
class Llama3Scaling:
    """The frequencies of slow dimensions are divided by a factor, those of fast ones are not, and those
    between them are divided in part (Llama 3.1, 2024).
    """

    attention_factor: ClassVar[float] = 1.0

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int

    def context_window(self, stated: int) -> int:
        return stated

    def scaled(self, frequencies: Frequencies, theta: float) -> Frequencies:  # noqa: ARG002
        turns = self.original_max_position_embeddings * frequencies / (2 * math.pi)
        kept = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        return _mixed(frequencies, self.factor, np.clip(kept, 0, 1))


@dataclass(frozen=True)
class YarnScaling:
    """Like Llama 3's scaling, but how much of a frequency is divided depends on its dimension's number, not
    on the frequency, and attention is sharper (Peng et al., 2023).

    Dimensions that turn more than `beta_fast` times within `original_max_position_embeddings` are kept, and
    those that turn less than `beta_slow` times are divided. `truncate` rounds the numbers of the first and
    the last dimension between them to whole numbers, away from each other. `reach` is the number of positions
    that the configuration says are reached in this way, or 0.
    """

    factor: float
    original_max_position_embeddings: int
    attention_factor: float
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    reach: int = 0

    def context_window(self, stated: int) -> int:
        """People who stretch positions by hand leave the stated window as it was."""
        return max(stated, self.reach)

    def scaled(self, frequencies: Frequencies, theta: float) -> Frequencies:
        count = len(frequencies)
        first, last = self._turning(self.beta_fast, count, theta), self._turning(self.beta_slow, count, theta)
        if self.truncate:
            first, last = math.floor(first), math.ceil(last)
        first, last = max(first, 0), min(last, 2 * count - 1)
        width = last - first or 0.001  # as transformers avoids a division by zero
        return _mixed(frequencies, self.factor, 1 - np.clip((np.arange(count) - first) / width, 0, 1))

    def _turning(self, turns: float, count: int, theta: float) -> float:
        """The number of the pair of dimensions, of `count`, that turns `turns` times."""
        return (
            count * math.log(self.original_max_position_embeddings / (turns * 2 * math.pi)) / math.log(theta)
        )


@dataclass(frozen=True)
class LongRopeScaling:
    """Each frequency is divided by a factor of its own (Ding et al., 2024): one of the list for short
    contexts or, if `is_long`, of the list for long ones.

    Transformers takes the long factors for every sequence of more than `original_max_position_embeddings`
    tokens. Because a cache holds keys that are already rotated, one list must serve all sequences here: with
    the short factors, none is longer than that.
    """

    factors: tuple[float, ...]
    attention_factor: float
    original_max_position_embeddings: int
    is_long: bool

    def context_window(self, stated: int) -> int:
        return stated if self.is_long else min(stated, self.original_max_position_embeddings)

    def scaled(self, frequencies: Frequencies, theta: float) -> Frequencies:  # noqa: ARG002
        return frequencies / np.asarray(self.factors, np.float64)


def sharpness(factor: float, weight: float) -> float:
    """By how much yarn makes the attention of positions that are stretched by `factor` sharper."""
    return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0


def _mixed(frequencies: Frequencies, factor: float, kept: Frequencies) -> Frequencies:
    """Keeps the part `kept` of each frequency, and divides the rest by the factor."""
    return np.asarray(frequencies * (kept + (1 - kept) / factor), np.float64)

"""Rotary positions (Su et al., 2021), and the ways to stretch them over longer contexts than a model was
trained for, as transformers computes them.

The scaling "dynamic" changes nothing up to max_position_embeddings. Beyond that, each token changes the
frequencies of all positions, which a cache of rotated keys can't follow. Such a model is therefore served
without scaling, up to max_position_embeddings.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from mlc_serve.errors import CheckpointError
from mlc_serve.models.config_values import LARGEST_SIZE, Config, flag, number, size

Frequencies = NDArray[np.float64]

_LARGEST_THETA = 1e15
_LARGEST_FACTOR = 1e6


class Scaling(Protocol):
    """A way to stretch positions."""

    @property
    def attention_factor(self) -> float:
        """The factor that queries and keys are each multiplied by."""

    @property
    def context_window_size(self) -> int:
        """How many positions a model can use with this scaling; 0 if it does not say."""

    def scaled(self, frequencies: Frequencies, theta: float) -> Frequencies:
        """The frequencies that replace `frequencies`, those of the base `theta`."""


@dataclass(frozen=True)
class Rope:
    """Rotary embedding with the base `theta`."""

    theta: float
    scaling: Scaling | None = None

    def frequencies(self, head_dim: int) -> Frequencies:
        """How many radians each pair of dimensions turns from one position to the next: `(head_dim / 2,)`."""
        frequencies = np.float64(self.theta) ** -(np.arange(0, head_dim, 2) / head_dim)
        return frequencies if self.scaling is None else self.scaling.scaled(frequencies, self.theta)

    @property
    def attention_factor(self) -> float:
        """The factor that queries and keys are each multiplied by."""
        return 1.0 if self.scaling is None else self.scaling.attention_factor


@dataclass(frozen=True)
class LinearScaling:
    """All positions are divided by a factor (Chen et al., 2023)."""

    attention_factor: ClassVar[float] = 1.0
    context_window_size: ClassVar[int] = 0

    factor: float

    def scaled(self, frequencies: Frequencies, theta: float) -> Frequencies:  # noqa: ARG002
        return frequencies / self.factor


@dataclass(frozen=True)
class Llama3Scaling:
    """The frequencies of slow dimensions are divided by a factor, those of fast ones are not, and those
    between them are divided in part (Llama 3.1, 2024).
    """

    attention_factor: ClassVar[float] = 1.0
    context_window_size: ClassVar[int] = 0

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int

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
    the last dimension between them to whole numbers, away from each other.
    """

    factor: float
    original_max_position_embeddings: int
    attention_factor: float
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    context_window_size: int = 0

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


def _mixed(frequencies: Frequencies, factor: float, kept: Frequencies) -> Frequencies:
    """Keeps the part `kept` of each frequency, and divides the rest by the factor."""
    return np.asarray(frequencies * (kept + (1 - kept) / factor), np.float64)


# ---------------------------------------------------------------- from a configuration


def read_rope(config: Config) -> Rope:
    """Read rotary settings in the spellings of transformers 4 (`rope_theta`, `rope_scaling`) and 5
    (`rope_parameters`), and of MLC. Raises CheckpointError, which names the key.
    """
    scaling = config.get("rope_scaling") or config.get("rope_parameters") or {}
    if not isinstance(scaling, Mapping):
        raise CheckpointError(f"rope_scaling must be an object, not {reprlib.repr(scaling)}")
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    if not isinstance(kind, str) or kind not in _READERS:
        raise CheckpointError(
            f"rope_scaling: the type {reprlib.repr(kind)} is not supported, only {', '.join(_READERS)}"
        )
    return Rope(_theta(config, scaling), _READERS[kind](config, scaling))


def _theta(config: Config, scaling: Config) -> float:
    inherited = _number_above_one(config, "position_embedding_base", 10000.0)
    inherited = _number_above_one(config, "rope_theta", inherited)
    return _number_above_one(scaling, "rope_theta", inherited)


def _number_above_one(config: Config, key: str, default: float) -> float:
    return number(config, key, 1, _LARGEST_THETA, default)


def _none(_config: Config, _scaling: Config) -> None:
    return None


def _linear(config: Config, scaling: Config) -> LinearScaling:
    _check_all_dimensions(config, scaling)
    return LinearScaling(_factor(scaling))


def _llama3(config: Config, scaling: Config) -> Llama3Scaling:
    _check_all_dimensions(config, scaling)
    low = number(scaling, "low_freq_factor", 0, _LARGEST_FACTOR)
    high = number(scaling, "high_freq_factor", low, _LARGEST_FACTOR)
    return Llama3Scaling(_factor(scaling), low, high, _original_window(config, scaling))


def _yarn(config: Config, scaling: Config) -> YarnScaling:
    _check_all_dimensions(config, scaling)
    original, stated = _original_window(config, scaling), _stated_original_window(config, scaling)
    factor = _factor(scaling, size(config, "max_position_embeddings", original) / original)
    return YarnScaling(
        factor,
        original,
        _yarn_attention_factor(scaling, factor),
        beta_fast=number(scaling, "beta_fast", 0, _LARGEST_FACTOR, 32.0),
        beta_slow=number(scaling, "beta_slow", 0, _LARGEST_FACTOR, 1.0),
        truncate=flag(scaling, "truncate", default=True),
        context_window_size=0 if stated is None else min(int(original * factor), LARGEST_SIZE),
    )


def _yarn_attention_factor(scaling: Config, factor: float) -> float:
    """Return the factor that is given, or the one that the paper advises, which follows from `factor`."""
    if scaling.get("attention_factor") is not None:
        return number(scaling, "attention_factor", 0, _LARGEST_FACTOR)
    if scaling.get("mscale") and scaling.get("mscale_all_dim"):
        own, of_all = (number(scaling, key, 0, _LARGEST_FACTOR) for key in ("mscale", "mscale_all_dim"))
        return _sharpness(factor, own) / _sharpness(factor, of_all)
    return _sharpness(factor, 1.0)


def _sharpness(factor: float, weight: float) -> float:
    return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0


def _factor(scaling: Config, default: float | None = None) -> float:
    return number(scaling, "factor", 0, _LARGEST_FACTOR, default)


def _original_window(config: Config, scaling: Config) -> int:
    """The context that the model was trained with, before its positions were stretched."""
    stated = _stated_original_window(config, scaling)
    return size(config, "max_position_embeddings") if stated is None else stated


def _stated_original_window(config: Config, scaling: Config) -> int | None:
    """Return the stated window. The configuration's own key takes precedence over the scaling's, as in
    transformers.
    """
    key = "original_max_position_embeddings"
    for place in (config, scaling):
        if place.get(key) is not None:
            return size(place, key)
    return None


def _check_all_dimensions(config: Config, scaling: Config) -> None:
    for place in (config, scaling):
        if place.get("partial_rotary_factor") not in (None, 1):
            raise CheckpointError("partial_rotary_factor is not supported: all dimensions are rotated")


_READERS: dict[str, Callable[[Config, Config], Scaling | None]] = {
    "default": _none,
    "dynamic": _none,
    "linear": _linear,
    "llama3": _llama3,
    "yarn": _yarn,
}

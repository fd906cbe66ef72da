"""Reads rotary positions from a configuration, in the spellings of transformers 4 (`rope_theta`,
`rope_scaling`) and 5 (`rope_parameters`), and of MLC. All readers raise CheckpointError, which names the key.

The scaling "dynamic" changes nothing up to max_position_embeddings. Beyond that, each token changes the
frequencies of all positions, which a cache of rotated keys can't follow. Such a model is therefore served
without scaling, up to max_position_embeddings.

The scaling "longrope" has one list of factors for sequences up to the length that the model was first trained
for, and one for longer ones. See `for_context`.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from mlc_serve.errors import CheckpointError
from mlc_serve.models.config_values import LARGEST_SIZE, Config, flag, index, number, size
from mlc_serve.models.rope import QueryScaling, Rope
from mlc_serve.models.rope_scaling import (
    LinearScaling,
    Llama3Scaling,
    LongRopeScaling,
    Scaling,
    YarnScaling,
    sharpness,
)

_LARGEST_THETA = 1e15
_LARGEST_FACTOR = 1e6
_SLIDING = "sliding_attention"
_LAYER_TYPES = ("full_attention", _SLIDING)
_LONG_CONTEXT = "longrope_serves_long_contexts"  # the key that for_context adds


class RopeStyle(NamedTuple):
    """How the configurations of a family state positions.

    `theta_key` holds the base, which is `theta` if it is missing. `part_key` holds the part of a head that is
    rotated, which is `part` if it is missing; if `part` is None, all of it is rotated, and a configuration
    that says otherwise is refused. If `local_theta` is given, sliding layers have a base of their own,
    `rope_local_base_freq` or else `local_theta`, and no scaling.
    """

    theta: float = 10000.0
    theta_key: str = "rope_theta"
    part: float | None = None
    part_key: str = "partial_rotary_factor"
    local_theta: float | None = None


def read_rope(config: Config, style: RopeStyle | None = None) -> Rope:
    """The positions of a model whose layers all have the same."""
    parameters = _parameters(config)
    for kind in _LAYER_TYPES:
        if kind in parameters:
            raise CheckpointError(f"rope_parameters: {kind} has its own positions, which is not supported")
    return _read(config, parameters, style or RopeStyle())


def read_ropes(
    config: Config, layer_types: Sequence[str], style: RopeStyle | None = None
) -> tuple[Rope | None, ...]:
    """The positions of each layer, whose types are "full_attention" or "sliding_attention"; None for a layer
    whose queries and keys are not rotated.

    `rope_parameters` may have an object or null for each type. The list `no_rope_layers` has a 0 for each
    layer that is not rotated; without it, a `no_rope_layer_interval` of n says that each n-th layer isn't.
    """
    ropes = {kind: _of_type(config, kind, style or RopeStyle()) for kind in sorted(set(layer_types))}
    rotated = _rotated_layers(config, len(layer_types))
    return tuple(
        ropes[kind] if is_rotated else None for kind, is_rotated in zip(layer_types, rotated, strict=True)
    )


def read_score_factor(config: Config) -> float:
    """What DeepSeek's models multiply their scores by if their positions are stretched."""
    scaling = _parameters(config)
    if _kind(scaling) == "default" or not scaling.get("mscale_all_dim"):
        return 1.0
    weight = number(scaling, "mscale_all_dim", 0, _LARGEST_FACTOR)
    return sharpness(_factor(scaling), weight) ** 2


def for_context(config: Config, length: int | None) -> Config:
    """The configuration of a model that is compiled for sequences of up to `length` tokens. None means as
    many as suits the model.

    This matters only for longrope. A cache holds keys that are already rotated, so that one list of factors
    must serve all sequences: the short one, which is right for ordinary prompts, unless `length` exceeds what
    it was made for.
    """
    scaling = _parameters(config)
    if length is None or _reader(scaling) is not _longrope:
        return config
    return {**config, _LONG_CONTEXT: True} if length > _original_window(config, scaling) else config


def longer_context(config: Config) -> int | None:
    """How many tokens a model can serve if `for_context` is told so; None if not more than otherwise."""
    scaling = _parameters(config)
    if _reader(scaling) is not _longrope:
        return None
    longest = size(config, "max_position_embeddings")
    return longest if longest > _original_window(config, scaling) else None


def _parameters(config: Config) -> Config:
    return _object(config.get("rope_scaling") or config.get("rope_parameters") or {}, "rope_scaling")


def _object(value: Any, key: str) -> Config:
    if not isinstance(value, Mapping):
        raise CheckpointError(f"{key} must be an object, not {reprlib.repr(value)}")
    return value


# ---------------------------------------------------------------- layers


def _of_type(config: Config, kind: str, style: RopeStyle) -> Rope | None:
    """The positions of all layers of one type."""
    parameters = _parameters(config)
    by_type = any(name in parameters for name in _LAYER_TYPES)
    own = parameters.get(kind) if by_type else parameters
    if kind == _SLIDING and style.local_theta is not None:
        return _local(config, _of(own, kind) if by_type else {}, style, style.local_theta)
    if by_type and kind not in parameters:
        raise CheckpointError(f"rope_parameters: {kind} is missing")
    is_rotated = own is not None or style.local_theta is not None
    return _read(config, _of(own, kind), style) if is_rotated else None


def _of(parameters: Any, kind: str) -> Config:
    return _object(parameters or {}, f"rope_parameters.{kind}")


def _local(config: Config, parameters: Config, style: RopeStyle, theta: float) -> Rope:
    """The positions of sliding layers with a base of their own. MLC's key is that of the other layers."""
    own = {key: value for key, value in config.items() if key != "position_embedding_base"}
    return _read(own, parameters, style._replace(theta=theta, theta_key="rope_local_base_freq"))


def _rotated_layers(config: Config, num_layers: int) -> Iterator[bool]:
    listed = config.get("no_rope_layers")
    if listed is None:
        interval = index(config, "no_rope_layer_interval", 0)
        return (interval == 0 or (layer + 1) % interval != 0 for layer in range(num_layers))
    if not isinstance(listed, list) or len(listed) < num_layers or not all(x in (0, 1) for x in listed):
        raise CheckpointError(
            f"no_rope_layers must list a 0 or a 1 for {num_layers} layers, not {reprlib.repr(listed)}"
        )
    return (bool(is_rotated) for is_rotated in listed[:num_layers])


# ---------------------------------------------------------------- one kind of layer


def _read(config: Config, scaling: Config, style: RopeStyle) -> Rope:
    read_scaling, rotary_dim = _reader(scaling), _rotary_dim(config, scaling, style)
    return Rope(
        _theta(config, scaling, style),
        read_scaling(_Reading(config, scaling, rotary_dim)),
        rotary_dim,
        _query_scaling(config, scaling),
    )


def _reader(scaling: Config) -> Callable[[_Reading], Scaling | None]:
    kind = _kind(scaling)
    if not isinstance(kind, str) or kind not in _READERS:
        raise CheckpointError(
            f"rope_scaling: the type {reprlib.repr(kind)} is not supported, only {', '.join(_READERS)}"
        )
    return _READERS[kind]


def _kind(scaling: Config) -> Any:
    """The type that the scaling states, which may be anything. The first Phi-3 called longrope "yarn"."""
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    return "longrope" if kind == "yarn" and "long_factor" in scaling else kind


def _theta(config: Config, scaling: Config, style: RopeStyle) -> float:
    inherited = _number_above_one(config, "position_embedding_base", style.theta)
    inherited = _number_above_one(config, style.theta_key, inherited)
    return _number_above_one(scaling, "rope_theta", inherited)


def _number_above_one(config: Config, key: str, default: float) -> float:
    return number(config, key, 1, _LARGEST_THETA, default)


def _rotary_dim(config: Config, scaling: Config, style: RopeStyle) -> int | None:
    """Return how many dimensions are rotated; None means all. The scaling's own part takes precedence."""
    if style.part is None:
        _check_all_dimensions(config, scaling)
        return None
    part = number(scaling, "partial_rotary_factor", 0, 1, number(config, style.part_key, 0, 1, style.part))
    head_dim = _head_dim(config)
    rotary_dim = int(head_dim * part)
    if rotary_dim < 2 or rotary_dim % 2:
        raise CheckpointError(
            f"{style.part_key} {part:g} rotates {rotary_dim} of the {head_dim} dimensions of a head, "
            "which are no pairs"
        )
    return None if rotary_dim == head_dim else rotary_dim


def _check_all_dimensions(config: Config, scaling: Config) -> None:
    for place in (config, scaling):
        if place.get("partial_rotary_factor") not in (None, 1):
            raise CheckpointError("partial_rotary_factor is not supported: all dimensions are rotated")


def _head_dim(config: Config) -> int:
    if config.get("head_dim") is not None:
        return size(config, "head_dim")
    return size(config, "hidden_size") // size(config, "num_attention_heads")


def _query_scaling(config: Config, scaling: Config) -> QueryScaling | None:
    if not scaling.get("llama_4_scaling_beta"):
        return None
    beta = number(scaling, "llama_4_scaling_beta", 0, _LARGEST_FACTOR)
    return QueryScaling(beta, _original_window(config, scaling))


# ---------------------------------------------------------------- scalings


class _Reading(NamedTuple):
    """What a scaling is read from."""

    config: Config
    scaling: Config
    rotary_dim: int | None


def _none(_reading: _Reading) -> None:
    return None


def _linear(reading: _Reading) -> LinearScaling:
    return LinearScaling(_factor(reading.scaling))


def _llama3(reading: _Reading) -> Llama3Scaling:
    config, scaling, _ = reading
    low = number(scaling, "low_freq_factor", 0, _LARGEST_FACTOR)
    high = number(scaling, "high_freq_factor", low, _LARGEST_FACTOR)
    return Llama3Scaling(_factor(scaling), low, high, _original_window(config, scaling))


def _yarn(reading: _Reading) -> YarnScaling:
    config, scaling, _ = reading
    original, stated = _original_window(config, scaling), _stated_original_window(config, scaling)
    factor = _stretch(reading)
    return YarnScaling(
        factor,
        original,
        _yarn_attention_factor(scaling, factor),
        beta_fast=number(scaling, "beta_fast", 0, _LARGEST_FACTOR, 32.0),
        beta_slow=number(scaling, "beta_slow", 0, _LARGEST_FACTOR, 1.0),
        truncate=flag(scaling, "truncate", default=True),
        reach=0 if stated is None else min(int(original * factor), LARGEST_SIZE),
    )


def _yarn_attention_factor(scaling: Config, factor: float) -> float:
    """Return the factor that is given, or the one that the paper advises, which follows from `factor`."""
    if scaling.get("attention_factor") is not None:
        return number(scaling, "attention_factor", 0, _LARGEST_FACTOR)
    if scaling.get("mscale") and scaling.get("mscale_all_dim"):
        own, of_all = (number(scaling, key, 0, _LARGEST_FACTOR) for key in ("mscale", "mscale_all_dim"))
        return sharpness(factor, own) / sharpness(factor, of_all)
    return sharpness(factor, 1.0)


def _longrope(reading: _Reading) -> LongRopeScaling:
    config, scaling, rotary_dim = reading
    num_pairs = (_head_dim(config) if rotary_dim is None else rotary_dim) // 2
    is_long = flag(config, _LONG_CONTEXT)
    lists = {key: _factors(scaling, key, num_pairs) for key in ("short_factor", "long_factor")}
    return LongRopeScaling(
        lists["long_factor" if is_long else "short_factor"],
        _longrope_attention_factor(reading),
        _original_window(config, scaling),
        is_long,
    )


def _longrope_attention_factor(reading: _Reading) -> float:
    config, scaling, _ = reading
    if scaling.get("attention_factor") is not None:
        return number(scaling, "attention_factor", 0, _LARGEST_FACTOR)
    factor, original = _stretch(reading), _original_window(config, scaling)
    return math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 and original > 1 else 1.0


def _factors(scaling: Config, key: str, count: int) -> tuple[float, ...]:
    """Return a list that has a factor for each pair of dimensions."""
    listed = scaling.get(key)
    if not isinstance(listed, list) or len(listed) != count:
        raise CheckpointError(
            f"{key} must list a factor for each of {count} pairs of dimensions, not {reprlib.repr(listed)}"
        )
    return tuple(number({key: factor}, key, 0, _LARGEST_FACTOR) for factor in listed)


def _stretch(reading: _Reading) -> float:
    """By how much the context is longer than the one before: the stated factor, or the ratio of the two."""
    config, scaling, _ = reading
    original = _original_window(config, scaling)
    return _factor(scaling, size(config, "max_position_embeddings", original) / original)


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


_READERS: dict[str, Callable[[_Reading], Scaling | None]] = {
    "default": _none,
    "dynamic": _none,
    "linear": _linear,
    "llama3": _llama3,
    "yarn": _yarn,
    "longrope": _longrope,
    "su": _longrope,  # what it was first called
}
"""By the type's name in a configuration."""

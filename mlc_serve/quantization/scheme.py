"""The table of quantization schemes."""

from __future__ import annotations

from dataclasses import dataclass

from mlc_serve.errors import ConfigError


@dataclass(frozen=True)
class Scheme:
    """How a scheme stores weights.

    On GPUs `weight_dtype` is also the type of activations. On the CPU activations, norms and biases are
    float32 under every scheme: its vector units multiply float32, and widen float16 weights on the way in.
    """

    name: str
    weight_dtype: str


SCHEMES = {scheme.name: scheme for scheme in (Scheme("q0f32", "float32"), Scheme("q0f16", "float16"))}


def find_scheme(name: str) -> Scheme:
    """The scheme of that name. Raises ConfigError."""
    if name not in SCHEMES:
        raise ConfigError(
            f"quantization {name!r} is not available; available are {', '.join(sorted(SCHEMES))}"
        )
    return SCHEMES[name]

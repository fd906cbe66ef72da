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


def choose_scheme(wanted: str | None, own: str | None, device_kind: str) -> Scheme:
    """The scheme to compile for: the one that is wanted, or that the weights have, or the device's default.

    Raises ConfigError for an unknown one, and for weights that are packed by another than is wanted.
    """
    if wanted and own and wanted != own:
        raise ConfigError(f"the weights are {own}; they can't be served as {wanted}")
    return find_scheme(wanted or own or ("q0f32" if device_kind == "cpu" else "q0f16"))

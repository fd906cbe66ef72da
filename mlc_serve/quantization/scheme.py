"""The table of quantization schemes, and which of them a model is compiled for."""

from __future__ import annotations

from dataclasses import dataclass

from mlc_serve.errors import ConfigError


@dataclass(frozen=True)
class GroupFormat:
    """Integers of `bits` bits with a scale for each `group_size` weights that follow one another in a row.

    A weight is `(stored - offset) * scale`; `stored` is unsigned, and `scale` has the type `scale_dtype`.
    Integers that need only `narrow_bits` have those in MLC's files; kernels read all of them with `bits`.
    """

    bits: int
    group_size: int
    offset: int
    scale_dtype: str
    narrow_bits: int | None = None

    @property
    def word_bits(self) -> int:
        """The bits of an integer in MLC's words."""
        return self.narrow_bits or self.bits

    @property
    def per_word(self) -> int:
        """How many integers one of MLC's 32-bit words holds. Groups are whole words."""
        return 32 // self.word_bits

    @property
    def limit(self) -> int:
        """The largest magnitude of an integer: the same on both sides of zero."""
        return (1 << (self.word_bits - 1)) - 1

    def padded(self, depth: int) -> int:
        """The length of a row of `depth` weights in whole groups."""
        return self.count(depth) * self.group_size

    def count(self, depth: int) -> int:
        """How many groups a row of `depth` weights has; the last may be partly filled."""
        return -(-depth // self.group_size)


@dataclass(frozen=True)
class Scheme:
    """How a scheme stores weights.

    With `groups`, the weights of products and embeddings are integers. All other weights have the type
    `weight_dtype` on GPUs, where it is also the type of activations. On the CPU, activations, norms and
    biases are float32 under every scheme. Without `is_for_gpus`, there are kernels only for the CPU.
    """

    name: str
    weight_dtype: str
    groups: GroupFormat | None = None
    is_for_gpus: bool = False


SCHEMES = {
    scheme.name: scheme
    for scheme in (
        Scheme("q0f32", "float32", is_for_gpus=True),
        Scheme("q0f16", "float16", is_for_gpus=True),
        Scheme("q0bf16", "bfloat16"),
        Scheme("q8f32_1", "float32", GroupFormat(8, 64, 128, "float16")),
        Scheme("q4f16_1", "float16", GroupFormat(4, 32, 7, "float16")),
        Scheme("q4f32_1", "float32", GroupFormat(4, 32, 7, "float32")),
        Scheme("q3f16_1", "float16", GroupFormat(4, 40, 3, "float16", narrow_bits=3)),
    )
}

# The schemes to compile for if neither the user nor the weights name one.
CPU_DEFAULT = "q8f32_1"
GPU_DEFAULT = "q0f16"
FLOAT_DEFAULT = "q0f32"


def find_scheme(name: str) -> Scheme:
    """The scheme of that name. Raises ConfigError."""
    if name not in SCHEMES:
        raise ConfigError(
            f"quantization {name!r} is not available; available are {', '.join(sorted(SCHEMES))}"
        )
    return SCHEMES[name]


def choose_scheme(wanted: str | None, own: str | None, device_kind: str) -> Scheme:
    """The scheme to compile for: `wanted`, or `own`, which the weights have, or the device's default.

    Raises ConfigError for an unknown scheme, one without kernels for the device, and one that the weights
    can't be converted to.
    """
    scheme = find_scheme(wanted or own or (CPU_DEFAULT if device_kind == "cpu" else GPU_DEFAULT))
    check_conversion(own, scheme.name)
    if device_kind != "cpu" and not scheme.is_for_gpus:
        others = ", ".join(sorted(name for name, known in SCHEMES.items() if known.is_for_gpus))
        raise ConfigError(
            f"quantization {scheme.name} is available on the CPU, not on {device_kind}; "
            f"available there are {others}"
        )
    return scheme


def choose_float_scheme(wanted: str | None) -> Scheme:
    """The scheme to compile an embedding model for: `wanted`, or else float32. Integers are a ConfigError."""
    scheme = find_scheme(wanted or FLOAT_DEFAULT)
    if scheme.groups is not None:
        floats = ", ".join(sorted(name for name, known in SCHEMES.items() if known.groups is None))
        raise ConfigError(
            f"quantization {scheme.name} is not available for embeddings; available are {floats}"
        )
    return scheme


def check_conversion(own: str | None, wanted: str) -> None:
    """Raise ConfigError if a checkpoint's weights, in the scheme `own`, can't be converted to `wanted`:
    integers are served only as they are.
    """
    if own is None or own == wanted:
        return
    if own not in SCHEMES or SCHEMES[own].groups is not None:
        raise ConfigError(f"the weights are {own}; they can't be served as {wanted}")

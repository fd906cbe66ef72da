"""Optimization levels: what a compiled model may do to be faster."""

from __future__ import annotations

from dataclasses import dataclass

from mlc_serve.errors import ConfigError


@dataclass(frozen=True)
class Optimization:
    """What a level allows on the CPU.

    `integer_products`: activations are rounded to bytes where weights are integers. `fused`: kernels do the
    work of several operators. `half_kv`: keys and values are float16 where weights are integers.
    """

    integer_products: bool
    fused: bool
    half_kv: bool


LEVELS = {
    "O0": Optimization(integer_products=False, fused=False, half_kv=False),
    "O1": Optimization(integer_products=True, fused=False, half_kv=False),
    "O2": Optimization(integer_products=True, fused=True, half_kv=False),
    "O3": Optimization(integer_products=True, fused=True, half_kv=True),
}


def find_level(name: str) -> Optimization:
    """The level of that name. Raises ConfigError."""
    if name not in LEVELS:
        raise ConfigError(f"optimization level {name!r} is not available; available are {', '.join(LEVELS)}")
    return LEVELS[name]

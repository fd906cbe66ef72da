"""The functions between the two products of an MLP."""

from __future__ import annotations

import reprlib
from typing import Literal

from mlc_serve.errors import CheckpointError
from mlc_serve.models.config_values import Config

# x * sigmoid(x); x times the normal distribution below x, exactly or by its formula with tanh; max(x, 0)^2.
Activation = Literal["silu", "gelu", "gelu_tanh", "relu_squared"]

_NAMES: dict[str, Activation] = {  # as transformers has them
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu2": "relu_squared",
}


def read_activation(config: Config, key: str = "hidden_act", default: Activation = "silu") -> Activation:
    """The activation that a configuration names. Raises CheckpointError, which names the key, for others."""
    name = config.get(key)
    if name is None:
        return default
    if not isinstance(name, str) or name not in _NAMES:
        supported = ", ".join(sorted(_NAMES))
        raise CheckpointError(f"{key} {reprlib.repr(name)} is not supported; supported are {supported}")
    return _NAMES[name]

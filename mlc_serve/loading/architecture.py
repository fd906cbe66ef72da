"""Reads the architecture of a checkpoint, and checks that the checkpoint's tensors agree with it.

This takes milliseconds, and comes before anything that takes longer: a configuration that contradicts the
tensors is refused before a library is compiled for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from mlc_serve.checkpoint.checkpoint import Checkpoint
from mlc_serve.checkpoint.sources import Sources
from mlc_serve.errors import CheckpointError
from mlc_serve.models.architecture import Architecture
from mlc_serve.models.config_values import Config
from mlc_serve.models.encoder import Encoder
from mlc_serve.models.families import is_encoder, read_architecture, read_encoder, weight_names

Read = TypeVar("Read", bound=Architecture | Encoder)


def check_checkpoint(checkpoint: Checkpoint) -> None:
    """Raise CheckpointError as checked_architecture does, for a model that generates text or an encoder."""
    _checked(checkpoint, read_encoder if is_encoder(checkpoint.model_type) else read_architecture)


def checked_architecture(checkpoint: Checkpoint) -> Architecture:
    """Return the architecture that the configuration of a model that generates text states.

    Raises CheckpointError for an architecture or a configuration that is not supported, and for a tensor that
    is missing or has another shape than the configuration says. The error is one line, which names the file
    and the key or the tensor.
    """
    return _checked(checkpoint, read_architecture)


def _checked(checkpoint: Checkpoint, read: Callable[[str, Config], Read]) -> Read:
    try:
        architecture = read(checkpoint.model_type, checkpoint.config)
    except CheckpointError as error:
        raise CheckpointError(f"{checkpoint.config_file}: {error}") from error
    sources_of(checkpoint).check(architecture.weights())
    return architecture


def sources_of(checkpoint: Checkpoint) -> Sources:
    """Return the checkpoint's tensors, by the names that its architecture gives to weights."""
    return Sources(checkpoint, weight_names(checkpoint.model_type))

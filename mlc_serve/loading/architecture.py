"""Reads the architecture of a checkpoint and what it is made for, and checks that its tensors agree.

This takes milliseconds, and comes before anything that takes longer: a configuration that contradicts the
tensors is refused before a library is compiled for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from mlc_serve.checkpoint.checkpoint import Checkpoint
from mlc_serve.checkpoint.leftovers import check_leftovers
from mlc_serve.checkpoint.pooling import is_made_for_embeddings
from mlc_serve.checkpoint.sources import Sources
from mlc_serve.config.sliding_window import SlidingWindow
from mlc_serve.errors import CheckpointError
from mlc_serve.models.architecture import Architecture
from mlc_serve.models.config_values import Config
from mlc_serve.models.encoder import Encoder
from mlc_serve.models.medusa import MedusaHeads
from mlc_serve.models.parts.named_shapes import NamedShape
from mlc_serve.models.rope_config import for_context
from mlc_serve.models.sequence_window import for_window
from mlc_serve.models.table import (
    FAMILIES,
    is_encoder,
    is_heads,
    read_architecture,
    read_encoder,
    read_heads,
    weight_names,
)
from mlc_serve.quantization.scheme import Scheme, choose_float_scheme, choose_scheme

Read = TypeVar("Read", bound=Architecture | Encoder | MedusaHeads)


def check_checkpoint(checkpoint: Checkpoint) -> None:
    """Raise CheckpointError as checked_architecture does, for a model of any kind."""
    if is_encoder(checkpoint.model_type):
        _checked(checkpoint, read_encoder)
    elif is_heads(checkpoint.model_type):
        _checked(checkpoint, read_heads)
    else:
        checked_architecture(checkpoint)


def checked_weights(checkpoint: Checkpoint) -> Iterator[NamedShape]:
    """Return the weights of a model that generates text, or of one that drafts for it. Raises CheckpointError
    as checked_architecture does.
    """
    if is_heads(checkpoint.model_type):
        return _checked(checkpoint, read_heads).weights()
    return checked_architecture(checkpoint).weights()


def checked_architecture(checkpoint: Checkpoint) -> Architecture:
    """Return the architecture that the configuration of a model that generates text states.

    Raises CheckpointError for an architecture or a configuration that is not supported, and for a tensor that
    is missing, that is no part of the model, or that has another shape than the configuration says. The error
    is one line, which names the file and the key or the tensor.
    """
    return _checked(checkpoint, read_architecture)


def _checked(checkpoint: Checkpoint, read: Callable[[str, Config], Read]) -> Read:
    with config_named(checkpoint):
        architecture = read(checkpoint.model_type, checkpoint.config)
    sources = sources_of(checkpoint)
    sources.check(architecture.weights())
    check_leftovers(sources, (name for name, _ in architecture.weights()))
    return architecture


@contextmanager
def config_named(checkpoint: Checkpoint) -> Iterator[None]:
    """Let each CheckpointError, which names a key, name the file of the configuration as well."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{checkpoint.config_file}: {error}") from error


def served_config(checkpoint: Checkpoint, length: int | None, window: SlidingWindow | None) -> Config:
    """Return the configuration to compile for sequences of up to `length` tokens, as for_context does, or for
    sequences of any length that are seen through a window. Raises CheckpointError for a model that can't be.
    """
    with config_named(checkpoint):
        config = for_context(checkpoint.config, length if window is None else window.size)
        config = for_window(config, window)
        if window is not None:
            read_architecture(checkpoint.model_type, config)
        return config


def makes_embeddings(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint is made for embeddings: an encoder, or a directory that says so."""
    return is_encoder(checkpoint.model_type) or is_made_for_embeddings(checkpoint.directory)


def keeps_recurrent_states(checkpoint: Checkpoint) -> bool:
    """Whether layers of a model keep a recurrent state, as its configuration says. A family that is not in
    the table is served with a library that MLC built, which says it instead.
    """
    if checkpoint.model_type not in FAMILIES:
        return False
    with config_named(checkpoint):
        return read_architecture(checkpoint.model_type, checkpoint.config).recurrence is not None


def scheme_for(checkpoint: Checkpoint, wanted: str | None, device_kind: str) -> Scheme:
    """Return the quantization scheme to compile a checkpoint's library for: `wanted`, or the default for what
    the checkpoint is made for. Raises ConfigError.
    """
    if is_encoder(checkpoint.model_type) or (wanted is None and makes_embeddings(checkpoint)):
        return choose_float_scheme(wanted)
    return choose_scheme(wanted, checkpoint.quantization, device_kind)


def sources_of(checkpoint: Checkpoint) -> Sources:
    """Return the checkpoint's tensors, by the names that its architecture gives to weights."""
    return Sources(checkpoint, weight_names(checkpoint.model_type, checkpoint.config))

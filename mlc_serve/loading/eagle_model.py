"""Reads an EAGLE draft model and the model that it drafts for, its target, and checks that its tensors agree
with both.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mlc_serve.checkpoint.checkpoint import Checkpoint
from mlc_serve.checkpoint.conversion import Part, WantedTensor
from mlc_serve.checkpoint.leftovers import check_leftovers
from mlc_serve.checkpoint.sources import Sources
from mlc_serve.errors import CheckpointError
from mlc_serve.loading.architecture import config_named, sources_of
from mlc_serve.models.decoder import Decoder
from mlc_serve.models.eagle import Eagle, is_of_target
from mlc_serve.models.eagle_config import VOCABULARY_MAP, read_eagle


def read_eagle_model(checkpoint: Checkpoint, target: Decoder) -> Eagle:
    """Return the draft model in a checkpoint. Raises CheckpointError as checked_architecture does, and if the
    draft model does not suit its target.
    """
    with config_named(checkpoint):
        eagle = read_eagle(checkpoint.config, target, checkpoint.tensors.names)
    sources = Sources(checkpoint, eagle.names)
    own = [weight for weight in eagle.weights() if not is_of_target(weight[0])]
    sources.check(own)
    check_leftovers(sources, (name for name, _ in own))
    read_token_ids(checkpoint, eagle)
    return eagle


def read_token_ids(checkpoint: Checkpoint, eagle: Eagle) -> NDArray[np.int32] | None:
    """Return the tokens that the draft model knows, in the order of its logits; None if they are all tokens.
    Raises CheckpointError if the target lacks one of them.
    """
    names = (VOCABULARY_MAP, f"model.{VOCABULARY_MAP}")
    stored = next((name for name in names if name in checkpoint.tensors.names), None)
    if stored is None:
        return None
    offsets, size = checkpoint.tensors.tensor(stored), eagle.draft_vocab_size
    if offsets.shape != (size,) or offsets.dtype.kind != "i":
        raise CheckpointError(
            f"{checkpoint.directory}: tensor {stored} is {offsets.dtype} {list(offsets.shape)}, and must "
            f"have an integer for each of the {size} tokens of draft_vocab_size"
        )
    token_ids = np.arange(size) + offsets
    if token_ids.min() < 0 or token_ids.max() >= eagle.vocab_size:
        raise CheckpointError(
            f"{checkpoint.directory}: tensor {stored} leads to tokens outside of the vocabulary, which has "
            f"{eagle.vocab_size}"
        )
    found: NDArray[np.int32] = token_ids.astype(np.int32)
    return found


def eagle_sources(
    checkpoint: Checkpoint, eagle: Eagle, target: Checkpoint, wanted: Sequence[WantedTensor]
) -> list[Part]:
    """Return the tensors that a library wants of each checkpoint."""
    return [
        (sources_of(target), [spec for spec in wanted if is_of_target(spec.name)]),
        (Sources(checkpoint, eagle.names), [spec for spec in wanted if not is_of_target(spec.name)]),
    ]

"""Every family of models that can be served, by the model_type of its config.json: those that generate text,
and the encoders, which make embeddings.
"""

from __future__ import annotations

import reprlib

from mlc_serve.errors import CheckpointError
from mlc_serve.models.architecture import Architecture, Family
from mlc_serve.models.bert import BERT
from mlc_serve.models.config_values import Config
from mlc_serve.models.encoder import Encoder, EncoderFamily
from mlc_serve.models.llama import LLAMA
from mlc_serve.models.qwen2 import QWEN2
from mlc_serve.models.qwen3 import QWEN3
from mlc_serve.models.roberta import ROBERTA
from mlc_serve.models.weight_names import WeightNames

FAMILIES: dict[str, Family] = {
    "llama": LLAMA,
    "qwen2": QWEN2,
    "qwen3": QWEN3,
}
ENCODERS: dict[str, EncoderFamily] = {
    "bert": BERT,
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
}


def is_encoder(model_type: str) -> bool:
    """Whether models of a family make embeddings, and no text."""
    return model_type in ENCODERS


def read_encoder(model_type: str, config: Config) -> Encoder:
    """The encoder that a configuration describes. Raises CheckpointError as its family does."""
    return ENCODERS[model_type].read(config)


def read_architecture(model_type: str, config: Config) -> Architecture:
    """The model that a configuration describes.

    Raises CheckpointError for a model_type that is not in the table, for a configuration that its family
    refuses, and for sliding windows, which no kernel here computes.
    """
    if is_encoder(model_type):
        raise CheckpointError(f"model_type {model_type!r} makes embeddings, and can't generate text")
    if model_type not in FAMILIES:
        supported = ", ".join(sorted(FAMILIES))
        raise CheckpointError(
            f"model_type {reprlib.repr(model_type)} is not supported; supported are {supported}"
        )
    architecture = FAMILIES[model_type].read(config)
    for number, layer in enumerate(architecture.attention.layers):
        if layer.window is not None:
            raise CheckpointError(f"layer {number} has a sliding window, which is not supported yet")
    return architecture


def weight_names(model_type: str) -> WeightNames:
    """Return the names that checkpoints of a family give to its weights. A family that is not in the table
    gets Llama's names: a library that MLC built may belong to such a family.
    """
    if is_encoder(model_type):
        return ENCODERS[model_type].names
    return FAMILIES.get(model_type, LLAMA).names

"""Every family of models that can be served, by the model_type of its config.json: those that generate text,
the encoders, which make embeddings, and the heads, which draft for models that generate text.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping

from mlc_serve.errors import CheckpointError
from mlc_serve.models.architecture import Architecture, ReadArchitecture
from mlc_serve.models.config_values import Config
from mlc_serve.models.encoder import Encoder, EncoderFamily
from mlc_serve.models.families.bert import BERT
from mlc_serve.models.families.cohere import read_cohere
from mlc_serve.models.families.deepseek_v2 import read_deepseek_v2
from mlc_serve.models.families.deepseek_v3 import read_deepseek_v3
from mlc_serve.models.families.gemma import read_gemma
from mlc_serve.models.families.gemma2 import read_gemma2
from mlc_serve.models.families.gemma3 import read_gemma3_text
from mlc_serve.models.families.gpt2 import read_gpt2
from mlc_serve.models.families.gpt_neox import read_gpt_neox
from mlc_serve.models.families.gpt_oss import read_gpt_oss
from mlc_serve.models.families.granite import read_granite
from mlc_serve.models.families.lfm2 import read_lfm2
from mlc_serve.models.families.llama import read_llama
from mlc_serve.models.families.ministral3 import read_ministral3
from mlc_serve.models.families.mistral import read_mistral
from mlc_serve.models.families.mixtral import read_mixtral
from mlc_serve.models.families.nemotron import read_nemotron
from mlc_serve.models.families.olmo2 import read_olmo2
from mlc_serve.models.families.phi import read_phi
from mlc_serve.models.families.phi3 import read_phi3
from mlc_serve.models.families.phi_msft import read_phi_msft
from mlc_serve.models.families.qwen2 import read_qwen2
from mlc_serve.models.families.qwen2_moe import read_qwen2_moe
from mlc_serve.models.families.qwen3 import read_qwen3
from mlc_serve.models.families.qwen3_5 import read_qwen3_5_text
from mlc_serve.models.families.qwen3_moe import read_qwen3_moe
from mlc_serve.models.families.roberta import ROBERTA
from mlc_serve.models.families.rwkv6 import read_rwkv6
from mlc_serve.models.families.smollm3 import read_smollm3
from mlc_serve.models.families.stablelm import read_stablelm
from mlc_serve.models.families.starcoder2 import read_starcoder2
from mlc_serve.models.layer_types import check_layer_types
from mlc_serve.models.medusa import MedusaHeads
from mlc_serve.models.sequence_window import in_window
from mlc_serve.models.unsupported_keys import refuse_unsupported_keys
from mlc_serve.models.weight_names import WeightNames

FAMILIES: dict[str, ReadArchitecture] = {
    "cohere": read_cohere,
    "deepseek_v2": read_deepseek_v2,
    "deepseek_v3": read_deepseek_v3,
    "gemma": read_gemma,
    "gemma2": read_gemma2,
    "gemma3_text": read_gemma3_text,
    "gpt2": read_gpt2,
    "gpt_neox": read_gpt_neox,
    "gpt_oss": read_gpt_oss,
    "granite": read_granite,
    "lfm2": read_lfm2,
    "llama": read_llama,
    "ministral3": read_ministral3,
    "mistral": read_mistral,
    "mixtral": read_mixtral,
    "nemotron": read_nemotron,
    "olmo2": read_olmo2,
    "phi": read_phi,
    "phi-msft": read_phi_msft,
    "phi3": read_phi3,
    "qwen2": read_qwen2,
    "qwen2_moe": read_qwen2_moe,
    "qwen3": read_qwen3,
    "qwen3_5_text": read_qwen3_5_text,
    "qwen3_moe": read_qwen3_moe,
    "rwkv6": read_rwkv6,
    "smollm3": read_smollm3,
    "stablelm": read_stablelm,
    "starcoder2": read_starcoder2,
}
_TEXT_PARTS = ("text_config", "llm_config", "language_config")
_PARTS = (  # keys under which models of several parts describe them
    *_TEXT_PARTS,
    *("vision_config", "audio_config", "img_processor", "embd_layer", "vision_tower_config"),
    *("thinker_config", "talker_config", "encoder", "decoder"),
)
ENCODERS: dict[str, EncoderFamily] = {
    "bert": BERT,
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
}
HEADS: dict[str, Callable[[Config], MedusaHeads]] = {
    "medusa": MedusaHeads.from_config,
}


def is_encoder(model_type: str) -> bool:
    """Whether models of a family make embeddings, and no text."""
    return model_type in ENCODERS


def read_encoder(model_type: str, config: Config) -> Encoder:
    """The encoder that a configuration describes. Raises CheckpointError as its family does."""
    return ENCODERS[model_type].read(config)


def is_heads(model_type: str) -> bool:
    """Whether models of a family are heads, which draft from the states of another model."""
    return model_type in HEADS


def read_heads(model_type: str, config: Config) -> MedusaHeads:
    """The heads that a configuration describes. Raises CheckpointError as their family does."""
    return HEADS[model_type](config)


def read_architecture(model_type: str, config: Config) -> Architecture:
    """The model that a configuration describes.

    Raises CheckpointError for a model_type that is not in the table, and for a configuration that its family
    refuses.
    """
    if is_encoder(model_type):
        raise CheckpointError(f"model_type {model_type!r} makes embeddings, and can't generate text")
    if is_heads(model_type):
        raise CheckpointError(
            f"model_type {model_type!r} only drafts for another model: name that model, and this one in "
            f"--additional-models, with --speculative-mode {model_type}"
        )
    if model_type not in FAMILIES:
        _refuse_parts(model_type, config)
        supported = ", ".join(sorted(FAMILIES))
        raise CheckpointError(
            f"model_type {reprlib.repr(model_type)} is not supported; supported are {supported}"
        )
    refuse_unsupported_keys(config)
    architecture = FAMILIES[model_type](config)
    if architecture.recurrence is None:  # otherwise its family has read the types of its layers
        check_layer_types(config, [layer.window for layer in architecture.attention.layers])
    return in_window(architecture, config)


def _refuse_parts(model_type: str, config: Config) -> None:
    """Refuse by name a model of several parts, such as one that sees pictures, which has a language model in
    it. Raises CheckpointError.
    """
    parts = [key for key in _PARTS if isinstance(config.get(key), Mapping)]
    if parts:
        raise CheckpointError(
            f"model_type {reprlib.repr(model_type)} has several parts ({', '.join(parts)}), which are not "
            f"supported; {_advice(config)}"
        )


def _advice(config: Config) -> str:
    """What to do with a model that has a text part."""
    text = next((config[key] for key in _TEXT_PARTS if isinstance(config.get(key), Mapping)), config)
    own = text.get("model_type")
    if text is not config and isinstance(own, str) and own in FAMILIES:
        return f"a checkpoint of the text part alone, whose model_type is {own!r}, can be served"
    return "serve a model that has text alone"


def weight_names(model_type: str, config: Config) -> WeightNames:
    """Return what checkpoints call the weights of a model. If its family is not in the table, MLC may have
    built a library for it, which takes weights by MLC's names.
    """
    if is_encoder(model_type):
        return ENCODERS[model_type].names(read_encoder(model_type, config))
    if is_heads(model_type):
        return read_heads(model_type, config).names
    return read_architecture(model_type, config).names if model_type in FAMILIES else WeightNames()

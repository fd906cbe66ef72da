"""Reads an Eagle from its configuration and the names of its tensors: MLC's eagle directories, the
checkpoints of EAGLE's authors and of those who follow them, and those in the format of `speculators`.

All functions raise CheckpointError, which names the key, for what is malformed, does not suit the target, or
changes what is computed in a way that no Eagle has.
"""

from __future__ import annotations

import reprlib
from collections.abc import Collection, Mapping
from typing import Any, Literal

from mlc_serve.errors import CheckpointError
from mlc_serve.models.config_values import Config, flag, size
from mlc_serve.models.decoder import Decoder
from mlc_serve.models.decoder_config import read_attention, read_norm, read_num_layers, same_layers
from mlc_serve.models.eagle import Eagle, StateNorms
from mlc_serve.models.layer_types import check_layer_types
from mlc_serve.models.parts.activation import read_activation
from mlc_serve.models.parts.attention import Attention
from mlc_serve.models.parts.head_norm import HeadNorm
from mlc_serve.models.parts.mlp import MLP
from mlc_serve.models.unsupported_keys import refuse_unsupported_keys
from mlc_serve.models.weight_names import GATE_UP, QKV, Renaming, WeightNames, renamed

Generation = Literal[1, 3]

SPECULATORS_KEY = "speculators_model_type"  # in the configuration of all models in that format
VOCABULARY_MAP = "d2t"  # the tensor that says which tokens a smaller vocabulary has

_SPECULATORS: dict[Any, Generation] = {"eagle": 1, "eagle3": 3}
_SPECULATORS_LAYERS = (None, "llama", "qwen3")
_TAP_IDS = "eagle_aux_hidden_state_layer_ids"
_UNUSED = (r"(^|\.)(d2t|t2d)$", r"(^|\.)verifier_(norm|lm_head)\.weight$")
_NEUTRAL = {  # the value that changes nothing; so does null
    "layernorms": False,
    "logit_scale": 1,
    "parallel_drafting": False,
    "use_sliding_window": False,
}
_NEUTRAL_OF_EAGLE_CONFIG = {
    "eagle_decoder_type": "llama",
    "parallel_draft_step": 1,
    "use_aux_hidden_state": True,
    "use_input_layernorm_in_first_layer": True,
    "use_last_layernorm": True,
    "use_mtp_layernorm": False,
}


def read_eagle(config: Config, target: Decoder, stored: Collection[str]) -> Eagle:
    """The model that a configuration describes, which drafts for `target`, in a checkpoint with the tensors
    `stored`.
    """
    generation, layer = _generation(config, stored), _layer_config(config)
    _refuse(config, layer)
    norm = read_norm(layer)
    has_bias = flag(config, "fusion_bias", default=_stores(stored, "fc.bias"))
    eagle = Eagle(
        target=target,
        generation=generation,
        names=_names(stored),
        taps=_taps(config, generation, len(target.blocks)),
        self_attn=_attention(layer, stored, norm.epsilon),
        mlp=MLP(size(layer, "intermediate_size"), read_activation(layer), bias=flag(layer, "mlp_bias")),
        norm=norm,
        draft_vocab_size=size(config, "draft_vocab_size", target.vocab_size),
        fc_bias=flag(config, "bias", default=has_bias),
        state_norms=_state_norms(config) if generation == 3 else None,
        normed_residual=flag(config, "norm_before_residual"),
        feeds_normed=flag(config, "norm_output"),
        has_embedding=_stores(stored, "embed_tokens"),
        has_head=_stores(stored, "lm_head"),
    )
    _check_target(eagle, config, layer)
    _check_vocabulary(eagle, layer, stored)
    return eagle


def _stores(stored: Collection[str], words: str) -> bool:
    """Whether a tensor has these words, between dots, in its name."""
    return any(f".{words}." in f".{name}." for name in stored)


def _generation(config: Config, stored: Collection[str]) -> Generation:
    kind = config.get(SPECULATORS_KEY)
    if kind is None and not _stores(stored, "fc"):
        raise CheckpointError("this is no EAGLE draft model: its checkpoint has no tensor fc.weight")
    if kind is None:
        return 3 if _stores(stored, "hidden_norm") else 1
    if kind not in _SPECULATORS:
        supported = ", ".join(_SPECULATORS)
        raise CheckpointError(
            f"{SPECULATORS_KEY} {reprlib.repr(kind)} is not supported; supported are {supported}"
        )
    return _SPECULATORS[kind]


def _layer_config(config: Config) -> Config:
    """What describes the layer, under Llama's keys."""
    if config.get(SPECULATORS_KEY) is None:
        return config
    layer = config.get("transformer_layer_config")
    if not isinstance(layer, Mapping):
        raise CheckpointError(f"transformer_layer_config must be an object, not {reprlib.repr(layer)}")
    kind = layer.get("model_type")
    if kind not in _SPECULATORS_LAYERS:
        raise CheckpointError(
            f"transformer_layer_config: model_type {reprlib.repr(kind)} is not supported, only llama, qwen3"
        )
    return layer


def _refuse(config: Config, layer: Config) -> None:
    """Refuse keys that ask for another computation."""
    for place in (config, layer):
        refuse_unsupported_keys(place)
        _refuse_other_values(place, _NEUTRAL)
    if read_num_layers(layer) != 1:
        raise CheckpointError(f"num_hidden_layers {layer['num_hidden_layers']} is not supported, only 1")
    check_layer_types(layer, [None])
    own = _eagle_config(config)
    unknown = sorted(own.keys() - {*_NEUTRAL_OF_EAGLE_CONFIG, _TAP_IDS})
    if unknown:
        raise CheckpointError(f"eagle_config: {unknown[0]} is not supported")
    _refuse_other_values(own, _NEUTRAL_OF_EAGLE_CONFIG)


def _refuse_other_values(config: Config, neutral: Mapping[str, Any]) -> None:
    for key, value in neutral.items():
        found = config.get(key)
        if found is not None and found != value:
            raise CheckpointError(f"{key} {reprlib.repr(found)} is not supported in a draft model")


def _eagle_config(config: Config) -> Config:
    own = config.get("eagle_config") or {}
    if not isinstance(own, Mapping):
        raise CheckpointError(f"eagle_config must be an object, not {reprlib.repr(own)}")
    return own


def _names(stored: Collection[str]) -> WeightNames:
    head = renamed("draft_head", "lm_head")
    layers = [renamed("layers.0", name) for name in ("midlayer", "transformer") if _stores(stored, name)]
    products: list[Renaming] = [renamed("fc", "fusion_fc")] if _stores(stored, "fusion_fc") else []
    return WeightNames(
        huggingface=(QKV, GATE_UP, head, *layers, *products),
        mlc=(head,),
        prefixes=("model.",),
        unused=_UNUSED,
    )


def _taps(config: Config, generation: Generation, num_layers: int) -> tuple[int, ...]:
    """The taps of the target. Where `speculators` lists them, they are those that enter the layers, and in
    `eagle_config` those that leave them.
    """
    if generation == 1:
        return (num_layers,)
    own = _eagle_config(config).get(_TAP_IDS)
    listed = config.get(_TAP_IDS)
    if own and not listed:
        return tuple(tap + 1 for tap in _numbers(own, num_layers - 1))
    if listed:
        return tuple(_numbers(listed, num_layers))
    if num_layers < 3:
        raise CheckpointError(
            f"{_TAP_IDS} must name layers of the model that is drafted for, which has only {num_layers}"
        )
    return (2, num_layers // 2, num_layers - 3)


def _numbers(listed: Any, most: int) -> list[int]:
    if not isinstance(listed, list) or not all(
        isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= most for number in listed
    ):
        raise CheckpointError(f"{_TAP_IDS} must list layers up to {most}, not {reprlib.repr(listed)}")
    return listed


def _attention(layer: Config, stored: Collection[str], epsilon: float) -> Attention:
    bias = flag(layer, "attention_bias")
    return Attention(
        read_attention(layer, same_layers(layer)),
        qkv_bias=flag(layer, "qkv_bias", default=bias),
        o_bias=bias,
        head_norm=HeadNorm("rms", epsilon) if _stores(stored, "q_norm") else None,
    )


def _state_norms(config: Config) -> StateNorms | None:
    joint, each = flag(config, "norm_before_fc"), flag(config, "fc_norm")
    if joint and each:
        raise CheckpointError("norm_before_fc and fc_norm exclude each other")
    if joint:
        return "joint"
    return "each" if each else None


def _check_target(eagle: Eagle, config: Config, layer: Config) -> None:
    """Check the width of the target's states."""
    key = "hidden_size" if eagle.generation == 1 else "target_hidden_size"
    width, wanted = size({**layer, **config}, key, eagle.hidden_size), eagle.target.hidden_size
    if width != wanted:
        raise CheckpointError(
            f"{key} {width} is not that of the model that is drafted for, whose states have {wanted} values"
        )
    is_complete = eagle.has_embedding and eagle.has_head
    if eagle.hidden_size != wanted and not is_complete:
        raise CheckpointError(
            f"hidden_size {eagle.hidden_size} needs embeddings and a head of its own, and the checkpoint "
            f"lacks {'lm_head' if eagle.has_embedding else 'embed_tokens'}"
        )


def _check_vocabulary(eagle: Eagle, layer: Config, stored: Collection[str]) -> None:
    """Check that tokens are the target's, and that the tokens of a smaller vocabulary are known."""
    own, wanted = size(layer, "vocab_size"), eagle.target.vocab_size
    if own != wanted:
        raise CheckpointError(
            f"vocab_size {own} is not that of the model that is drafted for, which has {wanted} tokens"
        )
    if eagle.draft_vocab_size == wanted:
        return
    missing = [name for name in (VOCABULARY_MAP, "lm_head") if not _stores(stored, name)]
    if eagle.generation == 1 or missing:
        raise CheckpointError(
            f"draft_vocab_size {eagle.draft_vocab_size} is not supported without "
            f"{missing[0] if missing else 'the norms of EAGLE-3'}"
        )

"""What llama.cpp calls the settings and the tensors of an architecture, and how it changes tensors. The facts
are those of gguf-py/gguf/constants.py and conversion/ of github.com/ggml-org/llama.cpp.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlc_serve.checkpoint.gguf.file import shown
from mlc_serve.errors import CheckpointError

Metadata = Mapping[str, Any]
Settings = dict[str, Any]

# transformers' names of settings, by those that follow the architecture's name.
_SETTINGS = {
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.sliding_window": "sliding_window",
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "rope.freq_base": "rope_theta",
}
# These are read elsewhere, or say nothing that the others and the tensors don't.
_READ_ELSEWHERE = frozenset(
    {"attention.value_length", "rope.dimension_count", "vocab_size", "rope.scaling.finetuned"}
)
_SCALING = "rope.scaling."
# Values that mean nothing.
_ABSENT: Sequence[Any] = (None, 0, 0.0, False, "", "none", [])

# The factors by which rotary frequencies are divided, which transformers keeps in the configuration.
FACTORS = "rope_freqs.weight"
_ENDS = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_SANDWICH = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_OF_LAYER = re.compile(r"blk\.(\d+)\.(\w+)\.(weight|bias)")


@dataclass(frozen=True)
class Family:
    """An architecture of llama.cpp's: its `model_type` in transformers, what its layers' tensors are called
    there, settings that follow from others, whether rows of queries and keys are in llama.cpp's order, and
    whether norms have 1 added.
    """

    model_type: str
    layer: Mapping[str, str] = field(default_factory=lambda: _LAYER)
    derived: Callable[[Settings], Settings] = dict
    has_pairs_apart: bool = False
    adds_one_to_norms: bool = False

    def row_change(self, name: str, config: Settings) -> Callable[[NDArray[Any]], NDArray[Any]]:
        """What brings the rows of a tensor into transformers' order."""
        found = _OF_LAYER.fullmatch(name)
        if not self.has_pairs_apart or found is None or found[2] not in ("attn_q", "attn_k"):
            return lambda array: array
        num_heads: int = config["num_attention_heads" if found[2] == "attn_q" else "num_key_value_heads"]
        return lambda array: _halves_apart(array, num_heads)

    def value_change(self, name: str) -> Callable[[NDArray[Any]], NDArray[Any]]:
        """What gives the values of a tensor those that transformers has."""
        if self.adds_one_to_norms and name.endswith("norm.weight"):
            return lambda array: array - 1
        return lambda array: array


def _halves_apart(rows: NDArray[Any], num_heads: int) -> NDArray[Any]:
    """Rows of heads in whose positions the pairs that are rotated together are neighbours -> the same heads
    with the first of all pairs before the second of all pairs.
    """
    paired = rows.reshape(num_heads, -1, 2, *rows.shape[1:])
    return paired.swapaxes(1, 2).reshape(rows.shape)


def _with_silu(_: Settings) -> Settings:
    return {"hidden_act": "silu"}


def _of_gemma3(config: Settings) -> Settings:
    is_27b = config.get("num_hidden_layers") == 62  # the only size whose scale differs, as in llama.cpp
    own = config["hidden_size"] // config["num_attention_heads"] if is_27b else config.get("head_dim")
    return {
        "hidden_activation": "gelu_pytorch_tanh",
        **({} if own is None else {"query_pre_attn_scalar": own}),
    }


FAMILIES: Mapping[str, Family] = {
    "gemma3": Family("gemma3_text", {**_LAYER, **_SANDWICH}, derived=_of_gemma3, adds_one_to_norms=True),
    "llama": Family("llama", derived=_with_silu, has_pairs_apart=True),
    "qwen2": Family("qwen2", derived=_with_silu),
    "qwen3": Family("qwen3", derived=_with_silu),
}


def family_of(metadata: Metadata) -> Family:
    """The family of a file's architecture. Raises CheckpointError."""
    name = metadata.get("general.architecture")
    if not isinstance(name, str) or name not in FAMILIES:
        raise CheckpointError(
            f"general.architecture is {reprlib.repr(name)}, which is not supported in GGUF files; supported: "
            f"{', '.join(sorted(FAMILIES))}"
        )
    return FAMILIES[name]


def names_of(family: Family, stored: Sequence[str]) -> dict[str, str]:
    """Transformers' names of the tensors, each with that in the files. Raises CheckpointError for a tensor
    that the architecture does not have.
    """
    return {_own_name(family, name): name for name in stored if name != FACTORS}


def _own_name(family: Family, name: str) -> str:
    found = _OF_LAYER.fullmatch(name)
    if found is not None and found[2] in family.layer:
        return f"model.layers.{found[1]}.{family.layer[found[2]]}.{found[3]}"
    part, _, kind = name.rpartition(".")
    if part in _ENDS:
        return f"{_ENDS[part]}.{kind}"
    raise CheckpointError(f"tensor {shown(name)} is not supported")


def config_of(
    family: Family, metadata: Metadata, shapes: Mapping[str, tuple[int, ...]], factors: NDArray[Any] | None
) -> Settings:
    """The settings under transformers' names. `shapes` are those of the tensors by the files' names, and
    `factors` the values of `rope_freqs.weight`. Raises CheckpointError for a setting that is not supported.
    """
    prefix = f"{metadata['general.architecture']}."
    own = {key.removeprefix(prefix): value for key, value in metadata.items() if key.startswith(prefix)}
    for key, value in own.items():
        is_known = key in _SETTINGS or key in _READ_ELSEWHERE or key.startswith(_SCALING)
        if not is_known and value not in _ABSENT:
            raise CheckpointError(f"{shown(prefix + key)} is {reprlib.repr(value)}, which is not supported")
    config: Settings = {
        _SETTINGS[key]: _same_for_all(value) for key, value in own.items() if key in _SETTINGS
    }
    config["model_type"] = family.model_type
    config["tie_word_embeddings"] = "output.weight" not in shapes
    config["attention_bias"] = "blk.0.attn_q.bias" in shapes
    config["mlp_bias"] = "blk.0.ffn_up.bias" in shapes
    if shape := shapes.get("token_embd.weight"):
        config["vocab_size"] = shape[0]
    _check_rotation(prefix, own, config)
    if scaling := _scaling(prefix, own, config, factors):
        config["rope_scaling"] = scaling
    return config | family.derived(config)


def _same_for_all(value: Any) -> Any:
    """The value of all layers, if it is listed for each and the same for all."""
    return value[0] if isinstance(value, list) and value and value == value[:1] * len(value) else value


def _check_rotation(prefix: str, own: Settings, config: Settings) -> None:
    """Raise CheckpointError if only a part of each head is rotated, or if values have another width."""
    heads, width = config.get("num_attention_heads"), config.get("hidden_size")
    if "head_dim" not in config and isinstance(heads, int) and isinstance(width, int) and heads > 0:
        config["head_dim"] = width // heads
    own_width = config.get("head_dim")
    for key in ("rope.dimension_count", "attention.value_length"):
        if key in own and own[key] != own_width:
            raise CheckpointError(
                f"{prefix}{key} is {reprlib.repr(own[key])}, which is not supported in heads of "
                f"{reprlib.repr(own_width)} dimensions"
            )


def _scaling(prefix: str, own: Settings, config: Settings, factors: NDArray[Any] | None) -> Settings | None:
    """How positions are stretched, in transformers' words."""
    kind = own.get(f"{_SCALING}type", "none")
    if factors is not None and kind in (*_ABSENT, "llama3"):
        listed = np.asarray(factors, np.float64).reshape(-1).tolist()
        return {
            "rope_type": "longrope",
            "short_factor": listed,
            "long_factor": listed,
            "attention_factor": 1.0,
            "original_max_position_embeddings": config.get("max_position_embeddings"),
        }
    if kind in _ABSENT:
        return None
    known: dict[str, Sequence[str]] = {"linear": ("factor",), "yarn": ("factor", "original_context_length")}
    names = {"original_context_length": "original_max_position_embeddings", "factor": "factor"}
    given = {key.removeprefix(_SCALING): value for key, value in own.items() if key.startswith(_SCALING)}
    wanted = {"type", "finetuned", *known.get(kind, ())}
    other = [key for key, value in given.items() if key not in wanted and value not in _ABSENT]
    if kind not in known or other or factors is not None:
        key = other[0] if other and kind in known else "type"
        raise CheckpointError(
            f"{shown(prefix + _SCALING + key)} is {reprlib.repr(given.get(key))}, which is not supported"
        )
    return {"rope_type": kind, **{names[key]: given[key] for key in known[kind] if key in given}}

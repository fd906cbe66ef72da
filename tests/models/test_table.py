"""Configurations that are refused by name, since they describe something else than a model that is built."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlc_serve.checkpoint.directory import open_checkpoint
from mlc_serve.errors import CheckpointError
from mlc_serve.loading.architecture import check_checkpoint
from mlc_serve.models.table import FAMILIES, read_architecture
from tests.models.test_decoder import CONFIG
from tests.plain_checkpoints import write_plain

SIGLIP = {"model_type": "siglip_vision_model", "hidden_size": 1152, "num_hidden_layers": 27}
SEVERAL_PARTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "gemma3": (
        {
            "architectures": ["Gemma3ForConditionalGeneration"],
            "boi_token_index": 255999,
            "mm_tokens_per_image": 256,
            "text_config": {"model_type": "gemma3_text", "hidden_size": 2560, "num_hidden_layers": 34},
            "vision_config": SIGLIP,
        },
        "text_config, vision_config",
        "a checkpoint of the text part alone, whose model_type is 'gemma3_text', can be served",
    ),
    "mistral3": (
        {
            "architectures": ["Mistral3ForConditionalGeneration"],
            "spatial_merge_size": 2,
            "text_config": {"model_type": "ministral3", "rope_parameters": {"rope_type": "yarn"}},
            "vision_config": {"model_type": "pixtral"},
        },
        "text_config, vision_config",
        "whose model_type is 'ministral3', can be served",
    ),
    "llava": (
        {
            "image_token_index": 32000,
            "projector_hidden_act": "gelu",
            "text_config": {"_name_or_path": "lmsys/vicuna-7b-v1.5", "model_type": "llama"},
            "vision_config": {"model_type": "clip_vision_model"},
        },
        "text_config, vision_config",
        "whose model_type is 'llama', can be served",
    ),
    "qwen2_5_vl": (
        CONFIG | {"vision_config": {"depth": 32, "hidden_act": "silu"}, "rope_scaling": {"type": "mrope"}},
        "vision_config",
        "serve a model that has text alone",
    ),
    "phi3_v": (
        CONFIG | {"embd_layer": {"embedding_cls": "image"}, "img_processor": {"name": "clip_vision_model"}},
        "img_processor, embd_layer",
        "serve a model that has text alone",
    ),
    "llama4": (
        {
            "text_config": {"model_type": "llama4_text", "num_local_experts": 16},
            "vision_config": {"model_type": "llama4_vision_model"},
        },
        "text_config, vision_config",
        "serve a model that has text alone",
    ),
    "internvl_chat": (
        {"llm_config": {"model_type": "qwen2"}, "vision_config": {"model_type": "intern_vit_6b"}},
        "llm_config, vision_config",
        "whose model_type is 'qwen2', can be served",
    ),
}


@pytest.mark.parametrize("model_type", SEVERAL_PARTS)
def test_a_model_of_several_parts_is_told(tmp_path: Path, model_type: str) -> None:
    """In one line with the file, the parts, and what can be served instead."""
    config, parts, advice = SEVERAL_PARTS[model_type]
    write_plain(tmp_path, "llama")
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": model_type}))
    with pytest.raises(CheckpointError) as caught:
        check_checkpoint(open_checkpoint(tmp_path))
    start = (
        f"{tmp_path / 'config.json'}: model_type {model_type!r} has several parts ({parts}), which are not"
    )
    assert str(caught.value).startswith(start)
    assert str(caught.value).endswith(advice)
    assert "\n" not in str(caught.value)


MLC_ALONE = ("baichuan", "chatglm", "eagle", "gpt_bigcode", "gptj", "internlm", "internlm2", "llama4")


@pytest.mark.parametrize("model_type", [*MLC_ALONE, "minicpm", "olmo", "orion", "qwen", "rwkv5"])
def test_a_family_that_only_mlc_has_is_refused_by_name(model_type: str) -> None:
    """With those that are supported."""
    supported = ", ".join(sorted(FAMILIES))
    with pytest.raises(CheckpointError) as caught:
        read_architecture(model_type, CONFIG)
    assert str(caught.value) == f"model_type {model_type!r} is not supported; supported are {supported}"


@pytest.mark.parametrize("model_type", ["llama", "gemma", "gemma2", "gemma3_text", "qwen2"])
@pytest.mark.parametrize(
    "keys",
    [
        {"use_bidirectional_attention": True},
        {"is_causal": False},
        {"clip_qkv": 8.0},
        {"add_cross_attention": True},
        {"is_encoder_decoder": True},
        {"attention_chunk_size": 8192},
    ],
    ids=str,
)
def test_a_key_that_no_family_follows_is_refused(model_type: str, keys: dict[str, Any]) -> None:
    """By its name; null and the value that changes nothing are fine."""
    ((key, value),) = keys.items()
    with pytest.raises(CheckpointError, match=f"^{key} {value} is not supported$"):
        read_architecture(model_type, CONFIG | keys)
    neutral = not value if isinstance(value, bool) else None
    for fine in (None, neutral):
        read_architecture(model_type, CONFIG | {"sliding_window": None, key: fine})


SLIDING, FULL = "sliding_attention", "full_attention"


@pytest.mark.parametrize(
    ("model_type", "keys", "fault"),
    [
        ("llama", {"layer_types": [FULL, SLIDING], "sliding_window": 16}, "layer 1 has no sliding window"),
        ("granite", {"layer_types": ["linear_attention"] * 2}, "'linear_attention' is not supported"),
        ("mistral", {"layer_types": [SLIDING, FULL], "sliding_window": 16}, "layer 1 has a sliding window"),
    ],
    ids=str,
)
def test_types_of_layers_that_a_family_does_not_have_are_refused(
    model_type: str, keys: dict[str, Any], fault: str
) -> None:
    """They are not ignored, because the model was trained with them."""
    with pytest.raises(CheckpointError, match=f"^layer_types: {fault}"):
        read_architecture(model_type, CONFIG | keys)


def test_types_of_layers_that_say_the_same_are_fine() -> None:
    """Such as full attention everywhere, and a window that holds the context."""
    read_architecture("llama", CONFIG | {"layer_types": [FULL, FULL]})
    read_architecture("llama", CONFIG | {"layer_types": [FULL, SLIDING], "sliding_window": 2048})


def test_an_activation_that_gemma_does_not_have_is_refused() -> None:
    """Old configurations say "gelu" and mean its form with tanh."""
    assert read_architecture("gemma", CONFIG | {"hidden_act": "gelu"}) == read_architecture("gemma", CONFIG)
    with pytest.raises(CheckpointError, match="hidden_act 'silu' is not supported"):
        read_architecture("gemma", CONFIG | {"hidden_act": "silu"})

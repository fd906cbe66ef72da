"""Tensors that no weight of a model is made of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mlc_serve.checkpoint.directory import open_checkpoint
from mlc_serve.errors import CheckpointError
from mlc_serve.loading.architecture import check_checkpoint
from tests.plain_checkpoints import write_plain

LAYER = "model.layers.0"


@pytest.mark.parametrize(
    ("model_type", "extra"),
    [
        ("llama", ()),
        ("llama", (f"{LAYER}.self_attn.rotary_emb.inv_freq", "mtp.fc.weight")),
        ("gpt2", ("transformer.h.0.attn.bias", "transformer.h.0.attn.masked_bias")),
        (
            "gpt_neox",
            (
                "gpt_neox.layers.0.attention.bias",
                "gpt_neox.layers.0.attention.masked_bias",
                "gpt_neox.layers.0.attention.rotary_emb.inv_freq",
            ),
        ),
        ("bert", ("bert.pooler.dense.weight", "bert.embeddings.position_ids", "cls.predictions.bias")),
        ("roberta", ("roberta.pooler.dense.bias", "lm_head.dense.weight", "lm_head.bias")),
    ],
)
def test_tensors_without_effect_may_be_there(tmp_path: Path, model_type: str, extra: tuple[str, ...]) -> None:
    """Tables of positions, masks, layers for further tokens, and the heads of encoders."""
    check_checkpoint(open_checkpoint(write_plain(tmp_path, model_type, extra=extra)))


@pytest.mark.parametrize(
    ("model_type", "name"),
    [
        ("llama", f"{LAYER}.self_attn.q_proj.bias"),
        ("llama", f"{LAYER}.self_attn.q_norm.weight"),
        ("llama", "model.layers.1.input_layernorm.weight"),
        ("llama", "score.weight"),
        ("llama", "vision_tower.patch_embedding.weight"),
        ("mistral", f"{LAYER}.mlp.up_proj.bias"),
        ("stablelm", f"{LAYER}.self_attn.q_layernorm.norms.0.weight"),
        ("gpt2", "transformer.h.0.crossattention.c_attn.weight"),
        ("llama", f"{LAYER}.attn.bias"),
        ("bert", "classifier.weight"),
    ],
)
def test_a_tensor_too_many_is_told(tmp_path: Path, model_type: str, name: str) -> None:
    """In one line with the directory and the tensor: biases, norms, layers, heads and parts that the
    configuration does not mention.
    """
    checkpoint = open_checkpoint(write_plain(tmp_path, model_type, extra=(name,)))
    with pytest.raises(CheckpointError) as caught:
        check_checkpoint(checkpoint)
    assert str(caught.value) == (
        f"{tmp_path}: tensor {name} is no part of the {model_type} model that its configuration describes"
    )


def test_a_bias_of_zeros_may_be_there(tmp_path: Path) -> None:
    """Programs that quantize weights have added them to every product."""
    write_plain(tmp_path, "llama")
    path = tmp_path / "model.safetensors"
    save_file(load_file(path) | {f"{LAYER}.mlp.up_proj.bias": np.zeros(32, np.float32)}, path)
    check_checkpoint(open_checkpoint(tmp_path))


def test_a_head_is_used_though_embeddings_are_tied(tmp_path: Path) -> None:
    """As in transformers, so that it is not too many."""
    write_plain(tmp_path, "gemma", {"tie_word_embeddings": False})
    config = json.loads((tmp_path / "config.json").read_text()) | {"tie_word_embeddings": True}
    (tmp_path / "config.json").write_text(json.dumps(config))
    check_checkpoint(open_checkpoint(tmp_path))


def test_rows_that_are_sorted_must_be_there(tmp_path: Path) -> None:
    """A tensor that is to be sorted is refused if it has another number of rows."""
    write_plain(tmp_path, "cohere", {"num_attention_heads": 8})
    config = json.loads((tmp_path / "config.json").read_text()) | {"num_key_value_heads": 4}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"k_proj\.weight has the shape \[32, 32\], which is not supp"):
        check_checkpoint(open_checkpoint(tmp_path))

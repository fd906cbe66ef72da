"""Directories that are written in MLC's form, for families that MLC stores in another way."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mlc_serve.checkpoint.directory import open_checkpoint
from mlc_serve.checkpoint.raw_shards import RawShards
from mlc_serve.checkpoint.safetensors_weights import SafetensorsWeights
from mlc_serve.checkpoint.sources import Sources
from mlc_serve.checkpoint.tensor_cache import ShardWriter
from mlc_serve.errors import CheckpointError
from mlc_serve.interface.convert import convert_model
from mlc_serve.loading.architecture import check_checkpoint, checked_architecture, sources_of
from mlc_serve.models.table import read_encoder
from tests.plain_checkpoints import write_plain

FAMILIES: dict[str, dict[str, Any]] = {
    "cohere": {},
    "gemma2": {"head_dim": 8, "query_pre_attn_scalar": 8},
    "gemma3_text": {"head_dim": 8, "query_pre_attn_scalar": 8},
    "gpt2": {},
    "gpt_neox": {"rotary_pct": 0.5},
    "nemotron": {},
    "phi": {},
    "phi-msft": {"n_embd": 32, "n_head": 4, "n_layer": 1, "rotary_dim": 4},
    "phi3": {},
    "olmo2": {},
    "stablelm": {"qk_layernorm": True, "use_parallel_residual": True},
    "starcoder2": {},
    "smollm3": {},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "head_dim": 8},
}


def values(sources: Sources, name: str) -> NDArray[Any]:
    """A weight in floating point."""
    return np.concatenate(list(sources.tensors(name).values()))


@pytest.mark.parametrize("model_type", FAMILIES)
@pytest.mark.parametrize("quantization", ["q0f32", "q0f16"])
def test_the_weights_are_those_of_the_source(tmp_path: Path, model_type: str, quantization: str) -> None:
    """Whatever their names, their order, and what MLC adds; norms that lack one keep their digits in
    float16. The configuration describes the same model.
    """
    source = write_plain(tmp_path / "source", model_type, FAMILIES[model_type])
    convert_model(str(source), quantization, tmp_path / "out")
    checkpoint = open_checkpoint(tmp_path / "out")
    assert checked_architecture(checkpoint) == checked_architecture(open_checkpoint(source))
    theirs, ours = sources_of(open_checkpoint(source)), sources_of(checkpoint)
    adds_one = quantization == "q0f16" and model_type.startswith("gemma")
    bound = 2**-10 if adds_one else 1e-7
    for name, _ in checked_architecture(checkpoint).weights():
        np.testing.assert_allclose(values(ours, name), values(theirs, name), atol=bound, err_msg=name)


def test_products_that_mlc_keeps_apart_are_written_apart(tmp_path: Path) -> None:
    """Also their integers and scales; norms of each head are no products."""
    source = write_plain(tmp_path / "source", "gemma3_text", FAMILIES["gemma3_text"])
    convert_model(str(source), "q4f16_1", tmp_path / "out")
    checked_architecture(open_checkpoint(tmp_path / "out"))
    shards = RawShards(tmp_path / "out")
    layer = "language_model.model.layers.0"
    shapes = [shards.shape(f"{layer}.self_attn.{part}_proj.q_weight") for part in "qkv"]
    assert shapes == [(32, 4)] * 3
    assert shards.shape(f"{layer}.self_attn.q_norm.weight") == (8,)


def test_rows_of_integers_are_sorted_as_mlc_has_them(tmp_path: Path) -> None:
    """The scales of a row follow from its values, so that the rows have those of the source in its order."""
    source = write_plain(tmp_path / "source", "cohere")
    convert_model(str(source), "q4f32_1", tmp_path / "out")
    own, shards = SafetensorsWeights(source), RawShards(tmp_path / "out")
    rows = np.concatenate([own.tensor(f"model.layers.0.self_attn.{part}_proj.weight") for part in "qkv"])
    scales = shards.tensor("model.layers.0.self_attn.qkv_proj.q_scale")[:, 0]
    np.testing.assert_allclose(scales, np.abs(rows).max(axis=1) / 7, rtol=1e-6)


def test_experts_are_stacked(tmp_path: Path) -> None:
    """Their integers and scales as well. The router, which is small, stays in floating point."""
    source = write_plain(tmp_path / "source", "mixtral", FAMILIES["mixtral"])
    convert_model(str(source), "q4f16_1", tmp_path / "out")
    checked_architecture(open_checkpoint(tmp_path / "out"))
    shards, moe = RawShards(tmp_path / "out"), "model.layers.0.moe"
    names = ("gate.weight", "e1_e3.q_weight", "e1_e3.q_scale", "e2.q_weight")
    shapes = [shards.shape(f"{moe}.{name}") for name in names]
    assert shapes == [(4, 32), (4, 64, 4), (4, 64, 1), (4, 32, 4)]


@pytest.mark.parametrize("model_type", ["gpt2", "starcoder2"])
def test_tied_embeddings_are_written_twice(tmp_path: Path, model_type: str) -> None:
    """MLC's definitions of these have a head of their own."""
    source = write_plain(tmp_path / "source", model_type)
    convert_model(str(source), "q0f32", tmp_path / "out")
    shards = RawShards(tmp_path / "out")
    embeddings = "transformer.wte.weight" if model_type == "gpt2" else "model.embed_tokens.weight"
    np.testing.assert_array_equal(shards.tensor("lm_head.weight"), shards.tensor(embeddings))


def test_a_library_of_mlc_is_told_to_take_its_own_form(tmp_path: Path) -> None:
    """If a tensor of MLC's is only a part of a weight; in a directory of MLC's, it is taken as it is."""
    source = write_plain(tmp_path / "source", "cohere")
    convert_model(str(source), "q0f32", tmp_path / "out")
    name = "model.layers.0.mlp.up_proj.weight"
    with pytest.raises(
        CheckpointError, match=r"up_proj\.weight is not stored as .* use convert_weight first"
    ):
        by_mlc_names(source).of(name)
    assert [part.name for part in by_mlc_names(tmp_path / "out").of(name)] == [name]


def test_an_encoder_of_mlc_is_read(tmp_path: Path) -> None:
    """Its queries, keys and values are one tensor, and MLC's name of a model_type may be its own."""
    source = sources_of(open_checkpoint(write_plain(tmp_path / "source", "bert")))
    out = tmp_path / "out"
    out.mkdir()
    writer, layer = ShardWriter(out), "encoder.layer.0.attention.self"
    names = [name for name, _ in read_encoder("bert", source.checkpoint.config).weights()]
    for name in names:
        if f"{layer}.query" in name:
            parts = [name.replace("query", part) for part in ("query", "key", "value")]
            writer.add(name.replace("query", "qkv"), np.concatenate([values(source, part) for part in parts]))
        elif not name.startswith(layer):
            writer.add(name, values(source, name))
    writer.close(1)
    config = {"model_type": "bert-bge", "quantization": "q0f32", "model_config": source.checkpoint.config}
    (out / "mlc-chat-config.json").write_text(json.dumps(config))
    check_checkpoint(open_checkpoint(out))
    ours = sources_of(open_checkpoint(out))
    for name in names:
        np.testing.assert_array_equal(values(ours, name), values(source, name), err_msg=name)


def by_mlc_names(directory: Path) -> Sources:
    """The tensors that a library asks for by MLC's names."""
    return replace(sources_of(open_checkpoint(directory)), by_mlc_names=True)

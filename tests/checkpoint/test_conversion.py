"""Converting a checkpoint's tensors."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from mlc_serve.checkpoint.conversion import convert
from mlc_serve.checkpoint.directory import open_checkpoint
from mlc_serve.checkpoint.huggingface import HuggingFaceCheckpoint
from mlc_serve.checkpoint.quantized_weights import read_quantized
from mlc_serve.checkpoint.raw_shards import RawShards
from mlc_serve.checkpoint.safetensors_weights import SafetensorsWeights
from mlc_serve.checkpoint.sources import Sources
from mlc_serve.errors import CheckpointError
from mlc_serve.models.weight_names import decoder_names
from mlc_serve.quantization.packing import pack
from mlc_serve.quantization.scheme import GroupFormat, find_scheme
from tests.checkpoints import Dtype, Shape, write_checkpoint
from tests.mlc_checkpoints import write_packed_model
from tests.quantization.reference import words_to_weight

SMALL = Shape("qwen2", hidden_size=16, num_layers=1, num_kv_heads=2, intermediate_size=24, vocab_size=300)
LAYER = "model.layers.0"


@dataclass(frozen=True)
class Wanted:
    """A parameter of a library."""

    name: str
    logical_shape: tuple[int, ...]
    dtype: str = "float32"
    layout: str = "plain"


QKV = Wanted(f"{LAYER}.self_attn.qkv_proj.weight", (32, 16))
QKV_BIAS = Wanted(f"{LAYER}.self_attn.qkv_proj.bias", (32,))
GATE_UP = Wanted(f"{LAYER}.mlp.gate_up_proj.weight", (48, 16))
NORM = Wanted("model.norm.weight", (16,))


def sources(directory: Path) -> Sources:
    """The tensors of a Qwen2 checkpoint."""
    return Sources(open_checkpoint(directory), decoder_names("c_attn"))


def converted(
    source: Path, directory: Path, *wanted: Wanted, form: GroupFormat | None = None
) -> dict[str, NDArray[Any]]:
    """The converted tensors by name."""
    directory.mkdir(exist_ok=True)
    convert(sources(source), wanted, form, directory, lambda count: None)
    shards = RawShards(directory)
    return {spec.name: shards.tensor(spec.name) for spec in wanted}


def test_parts_of_a_fused_product_follow_one_another(tmp_path: Path) -> None:
    """A fused weight or bias has the rows of Q, K and V, or of gate and up, one after the other."""
    source = write_checkpoint(tmp_path / "source", SMALL)
    own = open_checkpoint(source)
    tensors = converted(source, tmp_path / "out", QKV, QKV_BIAS, GATE_UP)
    for spec, parts in ((QKV, "qkv"), (QKV_BIAS, "qkv"), (GATE_UP, ["gate", "up"])):
        names = [spec.name.replace("qkv" if parts == "qkv" else "gate_up", part) for part in parts]
        np.testing.assert_array_equal(
            tensors[spec.name], np.concatenate([own.tensors.tensor(name) for name in names])
        )


def test_a_directory_that_holds_fused_tensors_is_read(tmp_path: Path) -> None:
    """Tensors that were fused for a library of MLC, under MLC's names, can be converted again."""
    source, form = write_checkpoint(tmp_path / "source", SMALL), find_scheme("q0f32").groups
    (tmp_path / "once").mkdir()
    of_mlc = Wanted(f"{LAYER}.self_attn.c_attn.weight", QKV.logical_shape, QKV.dtype)
    convert(
        replace(sources(source), by_mlc_names=True), [of_mlc, NORM], form, tmp_path / "once", lambda _: None
    )
    chat_config = {
        "model_type": "qwen2",
        "quantization": "q0f32",
        "model_config": json.loads((source / "config.json").read_text()),
    }
    (tmp_path / "once" / "mlc-chat-config.json").write_text(json.dumps(chat_config))
    once, twice = (
        converted(directory, tmp_path / out, QKV, NORM)
        for directory, out in ((source, "direct"), (tmp_path / "once", "twice"))
    )
    for name, tensor in once.items():
        np.testing.assert_array_equal(twice[name], tensor)


@pytest.mark.parametrize("stored", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_tensors_are_cast(tmp_path: Path, stored: Dtype, dtype: str) -> None:
    """Tensors of all types that checkpoints are published in are cast to the types of kernels, and packed."""
    source = write_checkpoint(tmp_path / "source", SMALL, dtype=stored)
    spec = Wanted("model.embed_tokens.weight", (300, 16), dtype, "tiles16")
    tensor = converted(source, tmp_path / "out", spec)[spec.name]
    own = open_checkpoint(source).tensors.tensor(spec.name).astype(np.float32).astype(dtype)
    np.testing.assert_array_equal(tensor, pack(own, "tiles16"))
    assert str(tensor.dtype) == dtype


def test_values_that_overflow_are_named(tmp_path: Path) -> None:
    """The error names a tensor with a value that float16 can't hold, as it would become infinity."""
    source = write_checkpoint(tmp_path / "source", SMALL)
    tensors = load_file(source / "model.safetensors")
    tensors[NORM.name][3] = 1e30
    save_file(tensors, source / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight has values that float16 can't hold"):
        converted(source, tmp_path / "out", Wanted(NORM.name, (16,), "float16"))
    assert converted(source, tmp_path / "out", NORM)[NORM.name][3] == np.float32(1e30)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_values_that_are_not_finite_are_named(tmp_path: Path, dtype: str) -> None:
    """The error names a tensor with values that are not finite."""
    source = write_checkpoint(tmp_path / "source", SMALL)
    tensors = load_file(source / "model.safetensors")
    tensors[NORM.name][3] = np.nan
    save_file(tensors, source / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight has values that are not finite"):
        converted(source, tmp_path / "out", Wanted(NORM.name, (16,), dtype))


def test_every_tensor_begins_at_a_multiple_of_64(tmp_path: Path) -> None:
    """Every tensor is aligned, whatever the sizes before it; progress counts only the tensors' bytes."""
    source = write_checkpoint(tmp_path / "source", SMALL)
    wanted = [
        Wanted(f"{LAYER}.self_attn.k_proj.bias", (8,), "float16"),
        NORM,
        Wanted(f"{LAYER}.input_layernorm.weight", (16,), "float16"),
        QKV,
    ]
    counts: list[int] = []
    convert(sources(source), wanted, None, tmp_path, counts.append)
    (shard,) = json.loads((tmp_path / "tensor-cache.json").read_text())["records"]
    assert [record["byteOffset"] for record in shard["records"]] == [0, 64, 128, 192]
    assert counts == [record["nbytes"] for record in shard["records"]] == [16, 64, 32, 32 * 16 * 4]
    assert shard["nbytes"] == (tmp_path / shard["dataPath"]).stat().st_size


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Wanted("model.lost.weight", (3,)), "there is no tensor model.lost.weight"),
        (
            Wanted("model.layers.7.mlp.gate_up_proj.weight", (3,)),
            "no tensor model.layers.7.mlp.gate_proj.weight",
        ),
        (Wanted(NORM.name, (17,)), r"model.norm.weight has the shape \[16\]; .* takes \[17\]"),
        (Wanted(QKV.name, (31, 16)), r"qkv_proj.weight has the shape \[32, 16\]; .* takes \[31, 16\]"),
    ],
    ids=["missing", "missing part", "shape", "fused shape"],
)
def test_what_does_not_fit_is_named(tmp_path: Path, wanted: Wanted, message: str) -> None:
    """The error names a tensor that is missing, or one of another shape with both shapes."""
    source = write_checkpoint(tmp_path / "source", SMALL)
    with pytest.raises(CheckpointError, match=message):
        converted(source, tmp_path / "out", wanted)


class Recording(SafetensorsWeights):
    """Tensors that record the names of those that are read."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.reads: list[str] = []

    def tensor(self, name: str) -> NDArray[Any]:
        """See StoredTensors."""
        self.reads.append(name)
        return super().tensor(name)


@pytest.mark.parametrize(
    ("scheme", "integers", "scales"),
    [
        ("q8f32_1", "tiles16-u8", "tiles16-scale"),
        ("q4f16_1", "tiles16-u4-paired", "tiles16-scale-paired"),
        ("q4f32_1", "tiles16-u4", "tiles16-scale"),
    ],
)
def test_a_weight_is_read_once_for_its_integers_and_scales(
    tmp_path: Path, scheme: str, integers: str, scales: str
) -> None:
    """Integers and scales come from one reading, each in its layout; a bias between them is unchanged."""
    form = find_scheme(scheme).groups
    assert form is not None
    name, shape = f"{LAYER}.self_attn.qkv_proj", (32, 16)
    checkpoint = HuggingFaceCheckpoint(write_checkpoint(tmp_path, SMALL))
    checkpoint.tensors = recording = Recording(tmp_path)
    wanted = [
        Wanted(f"{name}.q_weight", shape, "uint8", integers),
        QKV_BIAS,
        Wanted(f"{name}.q_scale", shape, form.scale_dtype, scales),
    ]
    own = Sources(checkpoint, decoder_names("c_attn"))
    convert(own, wanted, form, tmp_path, lambda count: None)
    assert len(recording.reads) == len(set(recording.reads)) == 6
    shards, weight = RawShards(tmp_path), read_quantized(own, name, shape, form)
    stored = pack(weight.stored, integers, padding=form.offset)
    np.testing.assert_array_equal(shards.tensor(f"{name}.q_weight"), stored)
    np.testing.assert_array_equal(shards.tensor(f"{name}.q_scale"), pack(weight.scale, scales))
    assert shards.tensor(f"{name}.q_scale").dtype == form.scale_dtype
    assert shards.tensor(QKV_BIAS.name).dtype == np.float32


def test_integers_of_mlc_are_restored_for_a_library_that_takes_none(tmp_path: Path) -> None:
    """MLC quantizes every table, also one of positions, which our libraries take in floating point."""
    source = write_packed_model(tmp_path / "mlc", write_checkpoint(tmp_path / "source", SMALL), "q3f16_1")
    shards, form = RawShards(source), find_scheme("q3f16_1").groups
    assert form is not None
    words, scale = (shards.tensor(f"model.embed_tokens.{part}") for part in ("q_weight", "q_scale"))
    spec = Wanted("model.embed_tokens.weight", (300, 16))
    restored = converted(source, tmp_path / "out", spec)[spec.name]
    np.testing.assert_array_equal(restored, words_to_weight(words, scale, 16, form))


def test_a_library_of_mlc_takes_integers_as_they_are(tmp_path: Path) -> None:
    """For MLC's library, which names no layout, MLC's integers are not changed."""
    source = write_packed_model(tmp_path / "mlc", write_checkpoint(tmp_path / "source", SMALL), "q4f16_1")
    words = open_checkpoint(source).tensors.tensor("lm_head.q_weight")
    spec = Wanted("lm_head.q_weight", (300, 4), "uint32")
    form = find_scheme("q4f16_1").groups
    np.testing.assert_array_equal(converted(source, tmp_path / "out", spec, form=form)[spec.name], words)

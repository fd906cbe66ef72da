"""Safetensors files that are missing or broken."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mlc_serve.checkpoint.safetensors_weights import SafetensorsWeights
from mlc_serve.errors import CheckpointError
from tests.checkpoints import Shape, tensor_shapes, write_checkpoint

SMALL = Shape(hidden_size=16, num_layers=1, intermediate_size=24, vocab_size=300)


def test_an_unknown_tensor_is_named(tmp_path: Path) -> None:
    """The error names the tensor that the file does not have."""
    with pytest.raises(CheckpointError, match=r"there is no tensor model\.layers\.9\.x"):
        SafetensorsWeights(write_checkpoint(tmp_path, SMALL)).tensor("model.layers.9.x")


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    """The error names a missing shard, as after a partial download, before any tensor is read."""
    write_checkpoint(tmp_path, SMALL, num_shards=3)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()

    with pytest.raises(
        CheckpointError, match=r"there is no model-00002-of-00003\.safetensors, which \S+ names"
    ):
        SafetensorsWeights(tmp_path)


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    """The error names a file that is cut off in its data or in its header."""
    file = write_checkpoint(tmp_path, SMALL) / "model.safetensors"
    whole = file.read_bytes()
    for length in (len(whole) - 1, 100, 3, 0):
        file.write_bytes(whole[:length])

        with pytest.raises(
            CheckpointError, match=r"^\S+model\.safetensors: not a complete safetensors file: .+$"
        ):
            SafetensorsWeights(tmp_path)


def test_a_shard_that_lacks_its_tensor_is_named(tmp_path: Path) -> None:
    """The error names a file that lacks a tensor which the index says it has."""
    write_checkpoint(tmp_path, SMALL, num_shards=2)
    weight_map = {"lost.weight": "model-00001-of-00002.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))

    with pytest.raises(
        CheckpointError, match=r"model-00001-of-00002\.safetensors: can't read tensor lost\.weight"
    ):
        SafetensorsWeights(tmp_path).tensor("lost.weight")


LONG = "x" * 300


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        (LONG, "can't be the name of a file"),
        ("x\0.safetensors", "there is no 'x.x00"),
        ("/etc/passwd", "is outside of the directory"),
        ("../model.safetensors", "is outside of the directory"),
        ("a/../../model.safetensors", "is outside of the directory"),
        ("", "there is no "),
        (".", "there is no "),
        ("new\nline", "there is no 'new.nline'"),
    ],
    ids=["long", "zero", "absolute", "above", "hidden", "empty", "directory", "line"],
)
def test_a_file_name_that_leads_nowhere_is_named(tmp_path: Path, name: str, fault: str) -> None:
    """The error is one short line that names the index, and no such file is opened."""
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a.weight": name}}))
    with pytest.raises(CheckpointError, match=fault) as caught:
        SafetensorsWeights(tmp_path)
    message = str(caught.value).replace(str(tmp_path), "")
    assert "\n" not in message
    assert len(message) < 200
    assert "model.safetensors.index.json" in message


def test_a_whole_file_goes_before_an_index(tmp_path: Path) -> None:
    """Beside a whole file, a stale index, whose files are gone, is ignored."""
    write_checkpoint(tmp_path, SMALL)
    stale = {"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(stale))
    weights = SafetensorsWeights(tmp_path)
    assert set(weights.names) == {name for name, _ in tensor_shapes(SMALL)}
    assert (weights.index, [path.name for path in weights.files]) == (None, ["model.safetensors"])


def test_shards_without_an_index_are_read(tmp_path: Path) -> None:
    """Shards without an index are read by their headers; consolidated files, which repeat them, are not."""
    write_checkpoint(tmp_path, SMALL, num_shards=3)
    (tmp_path / "model.safetensors.index.json").unlink()
    save_file({"tok_embeddings.weight": np.ones(3, np.float32)}, tmp_path / "consolidated.00.safetensors")
    weights = SafetensorsWeights(tmp_path)
    assert {name: weights.shape(name) for name in weights.names} == dict(tensor_shapes(SMALL))
    assert [path.name[:11] for path in weights.files] == ["model-00001", "model-00002", "model-00003"]


def test_without_an_index_a_tensor_is_in_one_file(tmp_path: Path) -> None:
    """A tensor in two files is refused, as without an index nothing says which of them is meant."""
    write_checkpoint(tmp_path, SMALL, num_shards=2)
    (tmp_path / "model.safetensors.index.json").unlink()
    save_file({"model.norm.weight": np.ones(16, np.float32)}, tmp_path / "other.safetensors")
    with pytest.raises(
        CheckpointError, match=r"both \S+ and other\.safetensors have a tensor model\.norm\.weight"
    ):
        SafetensorsWeights(tmp_path)


def test_a_base_model_s_names_are_completed(tmp_path: Path) -> None:
    """Names get the prefix that a model saved without its LM head lacks; extra tensors do no harm."""
    write_checkpoint(tmp_path, SMALL)
    tensors = load_file(tmp_path / "model.safetensors")
    short = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    short["layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(2, np.float32)
    save_file(short, tmp_path / "model.safetensors")
    weights = SafetensorsWeights(tmp_path)
    assert set(tensors) < set(weights.names)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(weights.tensor(name), tensor)


@pytest.mark.parametrize("content", ["{}", '{"weight_map": []}', '{"weight_map": {"x": 1}}'])
def test_an_index_without_a_map_is_refused(tmp_path: Path, content: str) -> None:
    """An index whose weight_map does not map names to files is refused."""
    (tmp_path / "model.safetensors.index.json").write_text(content)

    with pytest.raises(CheckpointError, match="weight_map does not map tensors to files"):
        SafetensorsWeights(tmp_path)


def test_weights_in_another_form_are_pointed_at(tmp_path: Path) -> None:
    """If there are only PyTorch's files, the error names them."""
    with pytest.raises(CheckpointError, match="no weights at all"):
        SafetensorsWeights(tmp_path)

    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(CheckpointError, match=r"but pytorch_model\.bin"):
        SafetensorsWeights(tmp_path)

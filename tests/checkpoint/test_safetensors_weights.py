"""Safetensors files that are missing or broken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlc_serve.checkpoint.safetensors_weights import SafetensorsWeights
from mlc_serve.errors import CheckpointError
from tests.checkpoints import Shape, write_checkpoint

SMALL = Shape(hidden_size=16, num_layers=1, intermediate_size=24, vocab_size=300)


def test_an_unknown_tensor_is_named(tmp_path: Path) -> None:
    """A model that asks for what the file has not is told which."""
    with pytest.raises(CheckpointError, match=r"there is no tensor model\.layers\.9\.x"):
        SafetensorsWeights(write_checkpoint(tmp_path, SMALL)).tensor("model.layers.9.x")


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    """A download that stopped half-way is found at start."""
    write_checkpoint(tmp_path, SMALL, num_shards=3)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()

    with pytest.raises(
        CheckpointError, match=r"there is no model-00002-of-00003\.safetensors, which \S+ names"
    ):
        SafetensorsWeights(tmp_path)


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    """Cut off in its data or in its header."""
    file = write_checkpoint(tmp_path, SMALL) / "model.safetensors"
    whole = file.read_bytes()
    for length in (len(whole) - 1, 100, 3, 0):
        file.write_bytes(whole[:length])

        with pytest.raises(
            CheckpointError, match=r"^\S+model\.safetensors: not a whole safetensors file: .+$"
        ):
            SafetensorsWeights(tmp_path)


def test_a_shard_that_lacks_its_tensor_is_named(tmp_path: Path) -> None:
    """The index says that a tensor is in a file, and it is not."""
    write_checkpoint(tmp_path, SMALL, num_shards=2)
    weight_map = {"lost.weight": "model-00001-of-00002.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))

    with pytest.raises(
        CheckpointError, match=r"model-00001-of-00002\.safetensors: can't read tensor lost\.weight"
    ):
        SafetensorsWeights(tmp_path).tensor("lost.weight")


@pytest.mark.parametrize("content", ["{}", '{"weight_map": []}', '{"weight_map": {"x": 1}}'])
def test_an_index_without_a_map_is_refused(tmp_path: Path, content: str) -> None:
    """Its form is checked before it is used."""
    (tmp_path / "model.safetensors.index.json").write_text(content)

    with pytest.raises(CheckpointError, match="weight_map does not map tensors to files"):
        SafetensorsWeights(tmp_path)


def test_weights_in_another_form_are_pointed_at(tmp_path: Path) -> None:
    """A directory with PyTorch's files alone says so."""
    with pytest.raises(CheckpointError, match="no weights at all"):
        SafetensorsWeights(tmp_path)

    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(CheckpointError, match=r"but pytorch_model\.bin"):
        SafetensorsWeights(tmp_path)

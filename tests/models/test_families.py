"""Families by name, and what one line in the table is enough for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from mlc_serve.checkpoint.conversion import convert
from mlc_serve.checkpoint.directory import open_checkpoint
from mlc_serve.checkpoint.raw_shards import RawShards
from mlc_serve.errors import CheckpointError
from mlc_serve.interface.convert import convert_model
from mlc_serve.loading.architecture import checked_architecture, sources_of
from mlc_serve.models.decoder import Decoder
from mlc_serve.models.parts.attention import Attention
from mlc_serve.models.table import FAMILIES, read_architecture
from mlc_serve.runtime.library import ParameterSpec
from mlc_serve.testing.architecture import read_fake
from tests.models.test_decoder import CONFIG
from tests.small_tokenizers import byte_level_bpe

FAKE_CONFIG = {"model_type": "fake", "layers": 2, "vocab": 6, "width": 4}


@pytest.mark.parametrize(
    ("model_type", "config", "biases"),
    [
        ("llama", {}, (False, False)),
        ("llama", {"attention_bias": True}, (True, True)),
        ("qwen2", {}, (True, False)),
    ],
)
def test_a_family_has_its_biases(model_type: str, config: dict[str, Any], biases: tuple[bool, bool]) -> None:
    """Qwen2 has them on Q, K and V; Llama nowhere, or if its config says so on the output as well."""
    read = read_architecture(model_type, CONFIG | config)
    assert isinstance(read, Decoder)
    attention = read.blocks[0].attention
    assert isinstance(attention, Attention)
    assert (attention.qkv_bias, attention.o_bias) == biases


def test_an_unknown_family_is_refused() -> None:
    """With a list of those that are known."""
    with pytest.raises(CheckpointError, match=r"'mamba' is not supported; supported are .*llama"):
        read_architecture("mamba", CONFIG)


# ---------------------------------------------------------------- a family that only the table knows


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Hugging Face checkpoint of a family that is in the table, and nowhere else."""
    monkeypatch.setitem(FAMILIES, "fake", read_fake)
    directory = tmp_path / "fake"
    directory.mkdir()
    byte_level_bpe().save(str(directory / "tokenizer.json"))
    (directory / "config.json").write_text(json.dumps(FAKE_CONFIG))
    tensors = {"embed.weight": np.ones((6, 4), np.float32)}
    for layer, half in ((layer, half) for layer in range(2) for half in ("left", "right")):
        tensors[f"layers.{layer}.mixer_{half}.weight"] = np.full((4, 4), layer + len(half), np.float32)
    save_file(tensors, directory / "model.safetensors")
    return directory


def test_its_configuration_is_read(directory: Path) -> None:
    """The dimensions, and the weights that its tensors are checked against."""
    architecture = checked_architecture(open_checkpoint(directory))
    assert (architecture.vocab_size, architecture.attention.num_layers) == (6, 2)
    assert list(architecture.weights())[-1] == ("layers.1.mixer.weight", (8, 4))


def test_its_dimensions_are_checked(directory: Path) -> None:
    """By the key, or by the tensor that contradicts the configuration."""
    for change, fault in (({"width": 5}, "embed.weight has the shape"), ({"vocab": "six"}, "vocab must be")):
        (directory / "config.json").write_text(json.dumps(FAKE_CONFIG | change))
        with pytest.raises(CheckpointError, match=fault):
            checked_architecture(open_checkpoint(directory))


def test_its_weights_are_found_by_their_names(directory: Path, tmp_path: Path) -> None:
    """The halves of its product follow one another; MLC's form has it whole, under MLC's name."""
    sources, out = sources_of(open_checkpoint(directory)), tmp_path / "out"
    out.mkdir()
    spec = ParameterSpec("layers.1.mixer.weight", (8, 4), "float32", "plain", (8, 4))
    convert(sources, [spec], None, out, lambda count: None)
    assert RawShards(out).tensor(spec.name)[:, 0].tolist() == [5.0] * 4 + [6.0] * 4
    convert_model(str(directory), "q0f32", tmp_path / "mlc")
    assert "layers.1.mixer_of_mlc.weight" in RawShards(tmp_path / "mlc").names
    checked_architecture(open_checkpoint(tmp_path / "mlc"))

"""convert_model: what it writes is the model that loading the source gives."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mlc_serve.api.sync_engine import MLCEngine
from mlc_serve.checkpoint.conversion import convert
from mlc_serve.checkpoint.directory import open_checkpoint
from mlc_serve.checkpoint.raw_shards import RawShards
from mlc_serve.compiler.library import export_model
from mlc_serve.compiler.target import target_for
from mlc_serve.config import EngineConfig
from mlc_serve.demo import demo_model_path
from mlc_serve.errors import CheckpointError, ConfigError
from mlc_serve.interface.compile import compile_model
from mlc_serve.interface.convert import convert_model
from mlc_serve.loading import load_model
from mlc_serve.loading.architecture import sources_of
from mlc_serve.quantization.scheme import SCHEMES, find_scheme
from mlc_serve.runtime.library import ParameterSpec
from tests.checkpoints import Architecture, Shape, write_checkpoint
from tests.medusa_checkpoints import random_heads, write_heads
from tests.mlc_checkpoints import write_packed_model
from tests.prompts import prompt_of

QWEN = Shape("qwen2", hidden_size=32, num_layers=1, num_kv_heads=2, intermediate_size=64, vocab_size=300)
QUESTION = [{"role": "user", "content": "What is 17 plus 25?"}]


def loaded_tensors(source: Path, quantization: str, out: Path) -> dict[str, NDArray[Any]]:
    """The tensors that loading a directory for the CPU gives, by name."""
    checkpoint, out = open_checkpoint(source), out.with_suffix(".loaded")
    out.mkdir()
    _, metadata = export_model(
        checkpoint.model_type, checkpoint.config, quantization, target_for("cpu", "x86-64-v3")
    )
    specs = [ParameterSpec.from_metadata(entry) for entry in metadata["params"]]
    convert(sources_of(checkpoint), specs, find_scheme(quantization).groups, out, lambda count: None)
    shards = RawShards(out)
    return {spec.name: shards.tensor(spec.name) for spec in specs}


@pytest.mark.parametrize("quantization", sorted(SCHEMES))
def test_the_weights_are_those_of_the_source(tmp_path: Path, quantization: str) -> None:
    """They are equal bit for bit in every scheme. Norms have the type that MLC's scheme gives them."""
    source = write_checkpoint(tmp_path / "source", QWEN, dtype="float16")
    output = tmp_path / "out"
    convert_model(str(source), quantization, output)
    ours = loaded_tensors(source, quantization, source)
    theirs = loaded_tensors(output, quantization, output)
    assert theirs.keys() == ours.keys()
    for name, tensor in ours.items():
        kept = find_scheme(quantization).weight_dtype if tensor.ndim == 1 else tensor.dtype
        np.testing.assert_array_equal(theirs[name], tensor.astype(kept).astype(tensor.dtype), err_msg=name)


@pytest.mark.parametrize("quantization", ["q0f16", "q4f16_1", "q4f32_1", "q3f16_1"])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_the_directory_is_as_mlc_writes_it(
    tmp_path: Path, quantization: str, architecture: Architecture
) -> None:
    """Tensor by tensor, with MLC's names, types and shapes, those of Qwen2 and Qwen3 among them."""
    source = write_checkpoint(tmp_path / "source", replace(QWEN, architecture=architecture))
    convert_model(str(source), quantization, tmp_path / "out")
    ours, theirs = (
        RawShards(directory)
        for directory in (tmp_path / "out", write_packed_model(tmp_path / "mlc", source, quantization))
    )
    assert set(ours.names) == set(theirs.names)
    for name in theirs.names:
        assert ours.tensor(name).dtype == theirs.tensor(name).dtype
        np.testing.assert_array_equal(ours.tensor(name), theirs.tensor(name), err_msg=name)


def test_the_chat_config_says_what_the_source_says(tmp_path: Path) -> None:
    """It has the architecture, MLC's names for sizes, end tokens and sampling values, and gives equal
    prompts.
    """
    convert_model(str(demo_model_path()), "q8f32_1", tmp_path / "out")
    source, written = open_checkpoint(demo_model_path()), open_checkpoint(tmp_path / "out")
    assert (written.model_type, written.quantization) == ("llama", "q8f32_1")
    assert written.generation_defaults() == source.generation_defaults()
    templates = source.chat_template(), written.chat_template()
    assert all(templates)
    assert len({prompt_of(template, QUESTION) for template in templates if template}) == 1
    config = json.loads((tmp_path / "out" / "mlc-chat-config.json").read_text())
    assert config["model_config"]["context_window_size"] == config["context_window_size"] == 2048
    assert config["model_config"]["position_embedding_base"] == 10000
    assert config["tokenizer_files"] == ["tokenizer.json", "tokenizer_config.json"]


def test_greedy_answers_are_the_same(tmp_path: Path) -> None:
    """The demo model answers the same from its source and from the converted directory, with one library."""
    library = tmp_path / "model.so"
    compile_model(str(demo_model_path()), "q4f16_1", "O3", "cpu", None, library)
    convert_model(str(demo_model_path()), "q4f16_1", tmp_path / "out")
    answers = {answer(directory, library) for directory in (demo_model_path(), tmp_path / "out")}
    assert len(answers) == 1
    assert "42" in answers.pop()


def answer(directory: Path, library: Path) -> str:
    """The model's greedy answer."""
    config = EngineConfig(
        model=str(directory),
        model_lib=str(library),
        max_num_sequence=1,
        max_total_sequence_length=256,
        verbose=False,
    )
    model = load_model(config, "cpu", lambda line: None)
    with MLCEngine.from_loaded(model) as engine:
        reply = engine.chat.completions.create(messages=QUESTION, temperature=0)
    return str(reply.choices[0].message.content)


@pytest.mark.parametrize("quantization", ["q0f16", "q4f16_1"])
def test_heads_are_those_of_the_source(tmp_path: Path, quantization: str) -> None:
    """Medusa's heads have MLC's names afterwards, and their weights are equal bit for bit."""
    source = write_heads(tmp_path / "source", random_heads(2, 1, hidden=32, vocab=300))
    output = tmp_path / "out"
    convert_model(str(source), quantization, output)
    config = json.loads((output / "mlc-chat-config.json").read_text())
    assert config["model_type"] == "medusa"
    assert config["model_config"]["medusa_num_heads"] == 2
    assert "medusa_head.1.0.linear.bias" in RawShards(output).names
    ours, theirs = (loaded_tensors(path, quantization, path) for path in (source, output))
    assert theirs.keys() == ours.keys()
    for name, tensor in ours.items():
        half = tensor.astype(find_scheme(quantization).weight_dtype)
        expected = half.astype(tensor.dtype) if tensor.ndim == 1 else tensor
        np.testing.assert_array_equal(theirs[name], expected, err_msg=name)


def test_weights_in_floating_point_are_converted_again(tmp_path: Path) -> None:
    """They can be converted from MLC's format to another scheme; integers can't, and the error says so."""
    source = write_checkpoint(tmp_path / "source", QWEN)
    convert_model(str(source), "q0f32", tmp_path / "whole")
    convert_model(str(tmp_path / "whole"), "q4f16_1", tmp_path / "small")
    convert_model(str(source), "q4f16_1", tmp_path / "direct")
    for name in RawShards(tmp_path / "direct").names:
        twice, once = (RawShards(tmp_path / path).tensor(name) for path in ("small", "direct"))
        np.testing.assert_array_equal(twice, once, err_msg=name)
    with pytest.raises(ConfigError, match="the weights are q4f16_1; they can't be served as q0f16"):
        convert_model(str(tmp_path / "small"), "q0f16", tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_what_can_not_be_converted_is_refused(tmp_path: Path) -> None:
    """The error names it, and nothing is left behind."""
    source = write_checkpoint(tmp_path / "source", QWEN)
    with pytest.raises(ConfigError, match="'q4f16_2' is not available"):
        convert_model(str(source), "q4f16_2", tmp_path / "out")
    with pytest.raises(ConfigError, match=r"source already exists; choose another --output"):
        convert_model(str(source), "q4f16_1", source)
    (source / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(CheckpointError, match="not a complete safetensors file"):
        convert_model(str(source), "q4f16_1", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]

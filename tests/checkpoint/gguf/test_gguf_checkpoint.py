"""Models in GGUF files: they are those of the directories that the files were made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind
from gguf import GGUFReader, GGUFWriter
from gguf.quants import dequantize
from hypothesis import given
from hypothesis import strategies as st

from mlc_serve.checkpoint.directory import open_checkpoint
from mlc_serve.checkpoint.gguf.checkpoint import gguf_in
from mlc_serve.errors import CheckpointError
from mlc_serve.interface.convert import convert_model
from mlc_serve.loading.architecture import checked_architecture
from mlc_serve.quantization.groups import dequantize as dequantized
from mlc_serve.quantization.packed import repacked
from mlc_serve.quantization.scheme import SCHEMES
from tests.checkpoints import Shape, write_checkpoint
from tests.gguf_files import assert_same_model, write_gguf

SHAPES = {
    "llama": Shape(),
    "llama, tied": Shape(tied=True, rope_theta=50000.0),
    "llama, biased": Shape(biased=True, num_kv_heads=4),
    "qwen2": Shape("qwen2", tied=True),
    "qwen3": Shape("qwen3", head_dim=32),
}


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_it_is_the_model_of_its_directory(name: str, tmp_path: Path) -> None:
    """With the order of rows that transformers has."""
    directory = write_checkpoint(tmp_path / "directory", SHAPES[name], seed=3)
    assert_same_model(write_gguf(directory, tmp_path / "model.gguf"), directory)


def test_frequencies_are_divided_as_the_file_says(tmp_path: Path) -> None:
    """The tensor rope_freqs stretches positions as Llama 3's scaling does, from which it was computed."""
    scaling = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 128,
    }
    directory = write_checkpoint(tmp_path / "directory", Shape(rope_scaling=scaling))
    expected = rope_of(directory)
    factors = expected.unscaled(16) / expected.frequencies(16)
    file = write_gguf(directory, tmp_path / "model.gguf", factors=factors.astype(np.float32))
    np.testing.assert_allclose(rope_of(file).frequencies(16), expected.frequencies(16), rtol=1e-6)
    assert rope_of(file).attention_factor == 1
    assert rope_of(file).context_window(2048) == 2048


def rope_of(path: Path) -> Any:
    """How a model's first layer rotates."""
    architecture: Any = checked_architecture(open_checkpoint(path))
    return architecture.blocks[0].attention.shape.layers[0].rope


@pytest.mark.parametrize("kind", [Kind.Q8_0, Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1, Kind.F16, Kind.BF16])
def test_numbers_are_those_that_the_package_reads(kind: Kind, tmp_path: Path) -> None:
    """Of matrices in each type, of which those with nothing but scales are taken as integers, too."""
    directory = write_checkpoint(tmp_path / "directory", Shape("qwen2", tied=True))
    model = open_checkpoint(write_gguf(directory, tmp_path / "model.gguf", kind))
    stored = {tensor.name: tensor for tensor in GGUFReader(tmp_path / "model.gguf").tensors}
    tensor = stored["blk.1.ffn_up.weight"]
    expected = dequantize(tensor.data, tensor.tensor_type)
    name = "model.layers.1.mlp.up_proj.weight"
    np.testing.assert_array_equal(np.asarray(model.tensors.tensor(name), np.float32), expected)
    packed = model.tensors.packed(name)
    assert (packed is not None) == (kind in (Kind.Q8_0, Kind.Q4_0))
    if packed is not None:
        np.testing.assert_array_equal(packed.floats(), expected)


def test_integers_that_a_scheme_holds_are_not_rounded_again(tmp_path: Path) -> None:
    """Weights in Q4_0 have the same values in the scheme of 4 bits."""
    directory = write_checkpoint(tmp_path / "directory", Shape())
    model = open_checkpoint(write_gguf(directory, tmp_path / "model.gguf", Kind.Q4_0))
    name, groups = "model.layers.0.mlp.gate_proj.weight", SCHEMES["q4f16_1"].groups
    packed = model.tensors.packed(name)
    assert packed is not None
    assert groups is not None
    restored = dequantized(repacked(packed, groups), packed.integers.shape[1], groups)
    np.testing.assert_array_equal(restored, model.tensors.tensor(name))


def test_integers_of_llamas_queries_are_in_order(tmp_path: Path) -> None:
    """Rows are moved together with their scales."""
    directory = write_checkpoint(tmp_path / "directory", Shape())
    model = open_checkpoint(write_gguf(directory, tmp_path / "model.gguf", Kind.Q8_0))
    for part in ("q", "k"):
        name = f"model.layers.0.self_attn.{part}_proj.weight"
        packed = model.tensors.packed(name)
        assert packed is not None
        np.testing.assert_array_equal(packed.floats(), model.tensors.tensor(name))


def test_ends_and_sampling_values_are_read(tmp_path: Path) -> None:
    """Both end tokens end an answer, and the values that the file recommends are defaults."""
    directory = write_checkpoint(tmp_path / "directory", Shape())
    file = write_gguf(
        directory,
        tmp_path / "model.gguf",
        tokenizer__ggml__eot_token_id=7,
        general__sampling__temp=0.5,
        general__sampling__top_k=20,
    )
    defaults = open_checkpoint(file).generation_defaults()
    assert 7 in defaults.eos_token_ids
    assert len(defaults.eos_token_ids) == 2
    assert (defaults.temperature, defaults.top_k) == (0.5, 20)
    template = open_checkpoint(file).chat_template()
    assert template is not None
    assert template.source == "{{ messages[0].content }}"


@pytest.mark.parametrize(
    ("metadata", "fault"),
    [
        ({"llama__expert_count": 8}, r"llama\.expert_count is 8, which is not supported"),
        ({"llama__rope__scaling__type": "longrope"}, r"llama\.rope\.scaling\.type is 'longrope'"),
        ({"llama__rope__dimension_count": 8}, r"llama\.rope\.dimension_count is 8"),
        ({"llama__attention__causal": True}, r"llama\.attention\.causal is True"),
    ],
)
def test_what_would_change_the_answer_is_refused(
    metadata: dict[str, Any], fault: str, tmp_path: Path
) -> None:
    """In one line, which names the file and the key."""
    directory = write_checkpoint(tmp_path / "directory", Shape())
    file = write_gguf(directory, tmp_path / "model.gguf", **metadata)
    with pytest.raises(CheckpointError, match=rf"model\.gguf: {fault}") as caught:
        open_checkpoint(file)
    assert "\n" not in str(caught.value)


def test_the_one_file_of_a_directory_is_found(tmp_path: Path) -> None:
    """Of several, one must be named."""
    directory = write_checkpoint(tmp_path / "directory", Shape())
    models = tmp_path / "models"
    models.mkdir()
    file = write_gguf(directory, models / "model-Q8_0.gguf")
    assert open_checkpoint(models).config_file == file
    (models / "mmproj-model.gguf").touch()
    assert gguf_in(models) == file
    (models / "other.gguf").touch()
    with pytest.raises(CheckpointError, match=r"several GGUF files.*model-Q8_0\.gguf, other\.gguf"):
        open_checkpoint(models)


def test_the_parts_of_a_file_are_one_model(tmp_path: Path) -> None:
    """Whichever part is named; a part that is missing is named, too."""
    directory = write_checkpoint(tmp_path / "directory", Shape())
    first = write_gguf(directory, tmp_path / "model-00001-of-00002.gguf")
    second = tmp_path / "model-00002-of-00002.gguf"
    with pytest.raises(CheckpointError, match=r"there is no model-00002-of-00002\.gguf"):
        open_checkpoint(first)
    writer = GGUFWriter(second, "llama")
    writer.add_uint16("split.no", 1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert_same_model(first, directory)
    assert open_checkpoint(second).config_file == first


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small file."""
    directory = tmp_path_factory.mktemp("gguf")
    small = Shape(num_layers=1, hidden_size=32, num_heads=2, intermediate_size=32)
    return write_gguf(write_checkpoint(directory / "model", small), directory / "model.gguf")


@given(data=st.data())
def test_a_damaged_file_is_refused_or_read(data: st.DataObject, whole: Path) -> None:
    """Whatever is changed in a file, or cut off, opening it raises at most a CheckpointError in one line."""
    content = bytearray(whole.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=6)):
        content[place] = data.draw(st.integers(0, 255))
    damaged = whole.with_name("damaged.gguf")
    damaged.write_bytes(content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))])
    reason = refusal(damaged)
    assert reason is None or (reason.isprintable() and len(reason) < 1000)


def refusal(file: Path) -> str | None:
    """Why a file is refused."""
    try:
        open_checkpoint(file)
    except CheckpointError as error:
        return str(error)
    return None


def test_it_is_not_converted_to_mlcs_form(tmp_path: Path) -> None:
    """This is said before anything is written."""
    file = write_gguf(write_checkpoint(tmp_path / "directory", Shape()), tmp_path / "model.gguf")
    with pytest.raises(CheckpointError, match=r"model\.gguf: .* can't be converted"):
        convert_model(str(file), "q4f16_1", tmp_path / "out")
    assert not (tmp_path / "out").exists()

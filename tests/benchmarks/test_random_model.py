"""Random checkpoints have the shapes that their configuration says."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path

import pytest
from safetensors import safe_open
from tokenizers import Tokenizer

from benchmarks.random_model import random_tensor, write_model
from benchmarks.shapes import SHAPES
from mlc_serve.models.table import read_architecture


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_a_model_directory_is_complete(tmp_path: Path, dtype: str) -> None:
    """Configuration, tokenizer and all tensors are there and agree."""
    shape = SHAPES["tiny"]
    write_model(shape, tmp_path, dtype)
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["model_type"], config["torch_dtype"]) == ("llama", dtype)
    with safe_open(tmp_path / "model.safetensors", framework="pt") as weights:
        found = {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118 - no dict
    assert found == dict(shape.tensors())
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == shape.vocab
    assert tokenizer.decode(tokenizer.encode("naïve 😀").ids) == "naïve 😀"


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("smollm2-135m", 134.5),
        ("llama3.2-1b", 1235.8),
        ("qwen2.5-0.5b", 494.0),
        ("gemma3-270m", 268.1),
        ("qwen3-0.6b", 596.0),
    ],
)
def test_shapes_have_the_published_number_of_parameters(name: str, millions: float) -> None:
    """The tensors of a shape add up to the size of the model it is named after."""
    total = sum(prod(dimensions) for _, dimensions in SHAPES[name].tensors())
    assert round(total / 1e6, 1) == millions


@pytest.mark.parametrize("name", list(SHAPES))
def test_the_engine_reads_as_many_weights_as_a_shape_has(name: str) -> None:
    """The configuration says the same as the tensors, for every family."""
    shape = SHAPES[name]
    read = read_architecture(shape.model_type, shape.config("bfloat16"))
    expected = sum(prod(dimensions) for _, dimensions in shape.tensors())
    assert sum(prod(dimensions) for _, dimensions in read.weights()) == expected


def test_one_layer_in_six_of_gemma_has_no_window() -> None:
    """The last of each six."""
    types = SHAPES["gemma3-270m"].config("bfloat16")["layer_types"]
    assert [layer for layer, kind in enumerate(types) if kind == "full_attention"] == [5, 11, 17]
    assert len(types) == 18


def test_tensors_are_seeded_by_name() -> None:
    """The same seed and name give the same values, another name others, whatever was drawn before."""
    shape = SHAPES["tiny"]
    first = random_tensor("a", (4, 4), shape, 1)
    other = random_tensor("b", (4, 4), shape, 1)
    assert (random_tensor("a", (4, 4), shape, 1) == first).all()
    assert (first != other).any()


def test_padding_has_no_weight() -> None:
    """Ids beyond the tokenizer's are never the likeliest."""
    shape = SHAPES["qwen2.5-0.5b"]
    embedding = random_tensor("model.embed_tokens.weight", (1000, 2), shape, 0)
    assert not embedding[-shape.padding :].any()
    assert embedding[: -shape.padding].any()

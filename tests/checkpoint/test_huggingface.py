"""Directories as transformers writes them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from mlc_serve.checkpoint.directory import open_checkpoint
from mlc_serve.checkpoint.huggingface import HuggingFaceCheckpoint
from mlc_serve.errors import CheckpointError
from mlc_serve.loaded_model import GenerationDefaults
from tests.checkpoints import Shape, tensor_shapes, write_checkpoint

SMALL = Shape(hidden_size=16, num_layers=1, intermediate_size=24, vocab_size=300, tied=True)
EMBEDDING = "model.embed_tokens.weight"


def edit(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file; None removes a key."""
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


@pytest.mark.parametrize("num_shards", [1, 3])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_reads_each_tensor_in_its_dtype(tmp_path: Path, num_shards: int, dtype: Any) -> None:
    """Tensors are read from one file or several with an index, in each dtype that models are published in."""
    checkpoint = open_checkpoint(
        write_checkpoint(tmp_path, SMALL, seed=7, dtype=dtype, num_shards=num_shards)
    )
    exact = HuggingFaceCheckpoint(write_checkpoint(tmp_path / "exact", SMALL, seed=7))

    assert set(checkpoint.tensors.names) == {name for name, _ in tensor_shapes(SMALL)}
    for name, shape in tensor_shapes(SMALL):
        tensor = checkpoint.tensors.tensor(name)
        assert (tensor.shape, tensor.dtype) == (shape, np.dtype(getattr(ml_dtypes, dtype, dtype)))
        np.testing.assert_array_equal(tensor, exact.tensors.tensor(name).astype(tensor.dtype))


def test_describes_the_model(tmp_path: Path) -> None:
    """A checkpoint has architecture, configuration and the tokenizer's directory, and is not quantized."""
    checkpoint = open_checkpoint(write_checkpoint(tmp_path, SMALL))

    assert checkpoint.model_type == "llama"
    assert checkpoint.quantization is None
    assert checkpoint.config["hidden_size"] == 16
    assert checkpoint.directory == checkpoint.tokenizer_directory == tmp_path


def test_the_fingerprint_changes_with_what_is_converted(tmp_path: Path) -> None:
    """The fingerprint changes with configuration, index and weights, but not with the chat template."""
    write_checkpoint(tmp_path, SMALL, num_shards=2)
    prints = [HuggingFaceCheckpoint(tmp_path).fingerprint()]
    edit(tmp_path / "tokenizer_config.json", chat_template="other")
    assert HuggingFaceCheckpoint(tmp_path).fingerprint() == prints[0]

    edit(tmp_path / "config.json", rms_norm_eps=0.5)
    prints.append(HuggingFaceCheckpoint(tmp_path).fingerprint())
    edit(tmp_path / "model.safetensors.index.json", metadata={})
    prints.append(HuggingFaceCheckpoint(tmp_path).fingerprint())
    os.utime(tmp_path / "model-00002-of-00002.safetensors", ns=(1, 1))
    prints.append(HuggingFaceCheckpoint(tmp_path).fingerprint())

    assert len(set(prints)) == len(prints)


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ({}, {}),
        ({"temperature": 0.6, "top_p": 0.9, "top_k": 20, "min_p": 0.05, "repetition_penalty": 1.1},) * 2,
        ({"temperature": None, "top_k": None, "do_sample": True}, {}),
        ({"top_k": 0}, {"top_k": None}),
        ({"temperature": 0.6, "do_sample": False}, {"temperature": 0.0}),
    ],
)
def test_sampling_defaults(tmp_path: Path, declared: dict[str, Any], expected: dict[str, Any]) -> None:
    """Values of generation_config.json are used; null sets nothing, and do_sample false means greedy."""
    write_checkpoint(tmp_path, SMALL)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": 299} | declared))

    ends = frozenset({299})
    assert (
        GenerationDefaults(**expected, eos_token_ids=ends) == open_checkpoint(tmp_path).generation_defaults()
    )


def test_end_tokens(tmp_path: Path) -> None:
    """End tokens come from generation_config.json, or else config.json, and always from the tokenizer."""
    write_checkpoint(tmp_path, SMALL)

    def ends() -> frozenset[int]:
        return open_checkpoint(tmp_path).generation_defaults().eos_token_ids

    assert ends() == {297, 299}
    edit(tmp_path / "generation_config.json", eos_token_id=5)
    assert ends() == {5, 299}
    (tmp_path / "generation_config.json").unlink()
    edit(tmp_path / "config.json", eos_token_id=[6, 7])
    assert ends() == {6, 7, 299}
    edit(tmp_path / "tokenizer_config.json", eos_token=None)
    assert ends() == {6, 7}
    edit(tmp_path / "config.json", eos_token_id=None)
    assert ends() == set()


def test_the_end_token_of_a_tokenizer_may_be_listed_anywhere(tmp_path: Path) -> None:
    """The id of the tokenizer's end token is found in any of the three files that may list it."""
    write_checkpoint(tmp_path, SMALL)
    for name in ("generation_config.json", "config.json"):
        edit(tmp_path / name, eos_token_id=None)

    def ends() -> frozenset[int]:
        return open_checkpoint(tmp_path).generation_defaults().eos_token_ids

    assert ends() == {299}
    edit(tmp_path / "tokenizer.json", added_tokens=[])
    assert ends() == set()
    edit(tmp_path / "tokenizer_config.json", added_tokens_decoder={"299": {"content": "<|im_end|>"}})
    assert ends() == {299}
    edit(tmp_path / "tokenizer_config.json", added_tokens_decoder=None)
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<|im_end|>": 299}))
    assert ends() == {299}


def test_null_hides_no_end_token(tmp_path: Path) -> None:
    """If generation_config.json has null or no usable id, the end tokens of config.json are used."""
    write_checkpoint(tmp_path, SMALL)
    edit(tmp_path / "config.json", eos_token_id=6)
    edit(tmp_path / "tokenizer_config.json", eos_token=None)
    for declared in (None, [], -1, "</s>", 300, [None, 10**6]):
        (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": declared}))
        assert open_checkpoint(tmp_path).generation_defaults().eos_token_ids == {6}


def test_defaults_that_can_not_be_followed_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Unusable defaults are left out with a warning each, and the others are used."""
    write_checkpoint(tmp_path, SMALL)
    edit(tmp_path / "generation_config.json", temperature="hot", top_k=1.5, eos_token_id=["x", 5], top_p=0.5)

    defaults = open_checkpoint(tmp_path).generation_defaults()

    assert (defaults.top_p, defaults.top_k, defaults.eos_token_ids) == (0.5, None, frozenset({5, 299}))
    assert [record.message.split(": ")[1] for record in caplog.records] == [
        "eos_token_id is left out",
        "temperature is left out",
        "top_k is left out",
    ]


@pytest.mark.parametrize(
    "added",
    [None, 3, "x", [1, None], {"0": {}}, [{}], [{"content": "<|im_end|>"}], [{"content": [], "id": {}}],
     [{"content": "<|im_end|>", "id": "a"}], [{"content": "<|im_end|>", "id": 10**9}]],
    ids=str,
)  # fmt: skip
def test_odd_added_tokens_declare_no_end(tmp_path: Path, added: Any) -> None:
    """Odd added tokens are ignored here, as the tokenizer itself reports what is wrong with its file."""
    write_checkpoint(tmp_path, SMALL)
    edit(tmp_path / "tokenizer.json", added_tokens=added)
    assert open_checkpoint(tmp_path).generation_defaults().eos_token_ids == {297, 299}


def test_a_config_without_model_type_is_refused(tmp_path: Path) -> None:
    """Without a model_type the architecture is unknown, and the error says that it is missing."""
    edit(write_checkpoint(tmp_path, SMALL) / "config.json", model_type=None)

    with pytest.raises(CheckpointError, match=r"config\.json: there is no model_type"):
        open_checkpoint(tmp_path)

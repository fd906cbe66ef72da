"""Configurations compared with the tensors of their checkpoint, and files with any content at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from mlc_serve.checkpoint.directory import open_checkpoint
from mlc_serve.errors import CheckpointError
from mlc_serve.loading.architecture import checked_architecture
from mlc_serve.models.architecture import Architecture
from tests.checkpoints import Shape, write_checkpoint
from tests.mlc_checkpoints import write_packed_model

SMALL = Shape("qwen2", hidden_size=16, num_layers=2, intermediate_size=24, vocab_size=300)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A correct checkpoint in two shards."""
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "sound", SMALL, num_shards=2)


@pytest.fixture
def directory(sound: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint, which a test may damage."""
    return Path(shutil.copytree(sound, tmp_path / "copy"))


def configure(directory: Path, **keys: Any) -> Path:
    """Change keys of config.json."""
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))
    return directory


def read(directory: Path) -> Architecture:
    """Read and check the architecture, as a start does before it compiles."""
    return checked_architecture(open_checkpoint(directory))


def test_a_sound_checkpoint_has_its_dimensions(directory: Path) -> None:
    """Those of its configuration."""
    assert read(directory).attention.num_layers == 2


def test_a_packed_checkpoint_has_its_dimensions(tmp_path: Path) -> None:
    """For weights that MLC has quantized, the numbers of rows are compared."""
    source = write_checkpoint(tmp_path / "source", Shape("qwen2"), dtype="float16")
    packed = write_packed_model(tmp_path / "packed", source, "q4f16_1")
    assert dict(read(packed).weights())["model.norm.weight"] == (64,)
    path = packed / "mlc-chat-config.json"
    config = json.loads(path.read_text())
    config["model_config"]["intermediate_size"] *= 3
    path.write_text(json.dumps(config))
    with pytest.raises(
        CheckpointError, match=r"mlp\.gate_up_proj\.weight \(quantized\) has the shape \[256\]"
    ):
        read(packed)


SHARED_WITH_MLC = (
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "rms_norm_eps",
    "vocab_size",
    "tie_word_embeddings",
)


@pytest.mark.parametrize(
    ("shape", "own"),
    [
        (
            Shape(tied=True, rope_theta=500_000.0),
            {"position_embedding_base": 500_000, "rope_scaling": None, "disaggregation": False},
        ),
        (Shape("qwen2", rope_theta=1e6), {"hidden_act": "silu", "rope_theta": 1000000.0, "dtype": "float32"}),
        (Shape("qwen3", head_dim=48), {"hidden_act": "silu", "attention_bias": False, "rope_theta": 10000.0}),
    ],
    ids=lambda value: getattr(value, "architecture", ""),
)
def test_the_keys_of_mlc_describe_the_same_model(tmp_path: Path, shape: Shape, own: dict[str, Any]) -> None:
    """A model_config with the keys that MLC writes for each family gives the same architecture as the
    config.json that it was made from. Weights that are whole are read whatever number of GPUs it names.
    """
    source = write_checkpoint(tmp_path / "source", shape, dtype="float16")
    packed = write_packed_model(tmp_path / "packed", source, "q3f16_1")
    path, config = packed / "mlc-chat-config.json", json.loads((source / "config.json").read_text())
    sizes = {
        "context_window_size": config["max_position_embeddings"],
        "prefill_chunk_size": 128,
        "tensor_parallel_shards": 2,
    }
    head_dim = config.get("head_dim", shape.hidden_size // shape.num_heads)
    model_config = own | sizes | {key: config[key] for key in SHARED_WITH_MLC} | {"head_dim": head_dim}
    beside = {"vocab_size": shape.vocab_size, "sliding_window_size": -1, "attention_sink_size": -1}
    chat_config = json.loads(path.read_text()) | sizes | beside | {"model_config": model_config}
    path.write_text(json.dumps(chat_config))
    assert read(packed) == read(source)


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ({"num_hidden_layers": 100_000}, "there is no tensor model.layers.2."),
        ({"num_hidden_layers": 1}, "model.layers.1.input_layernorm.weight, like 11 others, is no part of"),
        ({"head_dim": 10**6}, "model.layers.0.self_attn.qkv_proj.weight has the shape"),
        ({"vocab_size": 10**9}, "model.embed_tokens.weight has the shape"),
        ({"hidden_size": 2**30, "head_dim": 4}, "model.embed_tokens.weight has the shape"),
        ({"intermediate_size": 25}, "model.layers.0.mlp.gate_up_proj.weight has the shape"),
        ({"num_attention_heads": 8, "head_dim": 4}, "self_attn.qkv_proj.weight has the shape"),
        ({"rms_norm_eps": float("nan")}, "config.json: rms_norm_eps must be a number above 0"),
        ({"rope_theta": float("inf")}, "config.json: rope_theta must be a number above 1"),
        ({"model_type": "mamba"}, "config.json: model_type 'mamba' is not supported"),
    ],
    ids=str,
)
def test_an_absurd_configuration_is_told_at_once(directory: Path, keys: dict[str, Any], fault: str) -> None:
    """The error names the file and the key, or the tensor that contradicts the configuration."""
    configure(directory, **keys)
    with pytest.raises(CheckpointError) as caught:
        read(directory)
    assert fault in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_tensor_of_another_shape_is_told(directory: Path) -> None:
    """The error names a tensor of another shape, even if its number of dimensions differs."""
    checkpoint = open_checkpoint(directory)
    tensors = {name: checkpoint.tensors.tensor(name) for name in checkpoint.tensors.names}
    for wrong in (np.ones((16, 1), np.float32), np.float32(1), np.ones(15, np.float32)):
        save_file(tensors | {"model.norm.weight": np.asarray(wrong)}, directory / "model.safetensors")
        with pytest.raises(
            CheckpointError, match=r"model\.norm\.weight has the shape \[.*the model takes \[16\]"
        ):
            read(directory)


def test_a_head_that_is_there_is_taken(directory: Path) -> None:
    """An lm_head in the checkpoint is used even if the configuration ties it, as in transformers."""
    assert "lm_head.weight" in dict(read(configure(directory, tie_word_embeddings=True)).weights())


# ---------------------------------------------------------------- anything at all


FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "model.safetensors.index.json",
)
KEYS = (
    *(
        "model_type",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "head_dim",
    ),
    *("num_key_value_heads", "vocab_size", "max_position_embeddings", "rms_norm_eps", "rope_theta"),
    *("rope_scaling", "rope_parameters", "hidden_act", "tie_word_embeddings", "attention_bias", "mlp_bias"),
    *("use_sliding_window", "sliding_window", "max_window_layers", "layer_types"),
    *("quantization_config", "weight_map"),
    *("original_max_position_embeddings", "position_embedding_base", "eos_token_id", "bos_token_id"),
    *("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "do_sample"),
    *("eos_token", "bos_token", "chat_template", "added_tokens_decoder"),
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, -1, 2**31, 10**30, 10**400])
    | st.floats()
    | st.text()
    | st.sampled_from(
        ["yarn", "dynamic", "llama3", "linear", "silu", "qwen2", "qwen3", "\ud83d", "x" * 400, "../x"]
    )
)
odd_keys = st.text(max_size=5) | st.sampled_from(
    [
        "rope_type",
        "type",
        "factor",
        "content",
        "name",
        "template",
        "attention_factor",
        "beta_fast",
        "truncate",
    ]
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(odd_keys, inner, max_size=4),
    max_leaves=8,
)


def read_everything(directory: Path) -> None:
    """Read all small files, as a start does."""
    checkpoint = open_checkpoint(directory)
    checked_architecture(checkpoint)
    checkpoint.fingerprint()
    checkpoint.portable_fingerprint()
    checkpoint.generation_defaults()
    checkpoint.chat_template()


@pytest.mark.slow
@settings(
    deadline=None,
    max_examples=120,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    file=st.sampled_from(FILES), keys=st.dictionaries(st.sampled_from(KEYS), values, min_size=1, max_size=3)
)
def test_odd_values_are_errors_of_one_line(directory: Path, file: str, keys: dict[str, Any]) -> None:
    """Whatever the small files contain, the checkpoint is read, or the error is one short line."""
    path = directory / file
    before = path.read_bytes() if path.exists() else None
    sound = {} if before is None else json.loads(before)
    path.write_text(json.dumps(sound | keys))
    try:
        read_everything(directory)
    except CheckpointError as error:
        message = str(error).replace(str(directory), "")
        message.encode()
        assert len(message.splitlines()) == 1
        assert len(message) < 400
    finally:
        if before is None:
            path.unlink()
        else:
            path.write_bytes(before)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"3",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a": ' * 100_000,
        b"9" * 5000,
        b"{}\0",
        b"NaN",
    ],
    ids=lambda content: str(content[:6]),
)
def test_what_is_no_object_is_an_error_of_one_line(directory: Path, file: str, content: bytes) -> None:
    """For a file that is cut off, empty or no JSON object, the error is one line that names it."""
    (directory / file).write_bytes(content)
    with pytest.raises(CheckpointError, match=file) as caught:
        read_everything(directory)
    assert len(str(caught.value).splitlines()) == 1

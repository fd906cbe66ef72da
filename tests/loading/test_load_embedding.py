"""What is loaded to make embeddings, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlc_serve.config import EngineConfig
from mlc_serve.errors import CheckpointError, ConfigError
from mlc_serve.loaded_model import LoadedEmbeddingModel
from mlc_serve.loading import load_embedding_model, load_model, load_served
from mlc_serve.loading.load_embedding import check_memory
from tests.checkpoints import Shape, write_checkpoint
from tests.encoder_checkpoints import write_encoder

ROOT = Path(__file__).parent.parent.parent

SERVES_A_CACHED_ENCODER = """
import sys
from mlc_serve.config import EngineConfig
from mlc_serve.loading import load_served

load_served(EngineConfig(model=sys.argv[1], verbose=False), "cpu", print)
import tvm.base
print("tvm_compiler" in tvm.base._LOADED_LIBS, "mlc_serve.compiler" in sys.modules)
"""


def ignore(_line: str) -> None:
    """Take a report, and do nothing."""


def load(directory: Path, **settings: Any) -> LoadedEmbeddingModel:
    """The embedding model in a directory."""
    return load_embedding_model(EngineConfig(model=str(directory), verbose=False, **settings), "cpu", ignore)


@pytest.mark.slow
def test_an_encoder_is_loaded_as_what_it_is(tmp_path: Path) -> None:
    """It becomes an embedding model, on the CPU, with the shortest of the limits that files and settings
    state. From the second start on no compiler is loaded.
    """
    directory = write_encoder(tmp_path / "model", pooling="mean_tokens", max_seq_length=60)
    lines: list[str] = []
    loaded = load_served(EngineConfig(model=str(directory), verbose=False), "cuda:1", lines.append)
    assert isinstance(loaded, LoadedEmbeddingModel)
    assert (loaded.device, loaded.quantization, loaded.limits.context_length) == ("cpu", "q0f32", 60)
    assert any("runs on the CPU, not on cuda:1" in line for line in lines)
    assert load(directory, max_single_sequence_length=90).limits.context_length == 90
    with pytest.raises(ConfigError, match="context_window_size=101 exceeds the 100 positions"):
        load(directory, max_single_sequence_length=101)
    library = str(tmp_path / "own.so")
    compiling = [sys.executable, "-m", "mlc_serve", "compile", str(directory), "--output", library]
    subprocess.run(compiling, cwd=ROOT, capture_output=True, check=True)
    assert load(directory, model_lib=library).quantization == "q0f32"
    with pytest.raises(ConfigError, match="not enough memory for an encoder: its weights take"):
        check_memory(loaded.name, 10, 10, free=19)
    program = [sys.executable, "-c", SERVES_A_CACHED_ENCODER, str(directory)]
    result = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "False False\n"


@pytest.mark.slow
def test_a_decoder_gets_its_end_token_unless_the_tokenizer_adds_one(tmp_path: Path) -> None:
    """The last token's state is that of the end token, which `end_id` names."""
    directory = write_checkpoint(tmp_path / "model", Shape(context_window_size=128))
    loaded = load(directory, max_num_sequence=4, max_total_sequence_length=256)
    assert loaded.end_id == loaded.tokenizer.token_id("<|im_end|>")
    assert loaded.embedder.embed([np.arange(100, dtype=np.int32)]).shape == (1, 64)
    assert loaded.limits.max_batch_inputs <= 4


def test_integers_are_refused(tmp_path: Path) -> None:
    """An encoder's weights are floating-point numbers; the message has the schemes."""
    with pytest.raises(ConfigError, match="q8f32_1 is not available for embeddings; available are q0bf16"):
        load(write_encoder(tmp_path), quantization="q8f32_1")


def test_an_encoder_can_not_chat(tmp_path: Path) -> None:
    """The error says what it is, before anything is compiled."""
    with pytest.raises(CheckpointError, match="makes embeddings, and can't generate text"):
        load_model(EngineConfig(model=str(write_encoder(tmp_path))), "cpu", ignore)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"architectures": ["BertForSequenceClassification"]}, r"architectures: .*cross-encoder"),
        ({"hidden_act": "relu"}, "hidden_act 'relu' is not supported, only 'gelu'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type 'relative_key'"),
        ({"is_decoder": True}, "is_decoder"),
        ({"num_attention_heads": 5}, "num_attention_heads: 5 heads"),
        ({"num_hidden_layers": 3}, r"there is no tensor .*encoder\.layer\.2\.attention"),
    ],
)
def test_what_an_encoder_does_not_compute_is_named(tmp_path: Path, keys: dict[str, Any], words: str) -> None:
    """A configuration that would give other numbers, or contradicts the tensors, is refused by the key."""
    directory = write_encoder(tmp_path)
    config = directory / "config.json"
    written = json.loads(config.read_text()) | keys
    config.write_text(json.dumps(written))
    with pytest.raises(CheckpointError, match=words):
        load(directory)

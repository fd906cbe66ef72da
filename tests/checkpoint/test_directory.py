"""Recognizing the form of a model directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlc_serve.checkpoint.directory import open_checkpoint
from mlc_serve.checkpoint.huggingface import HuggingFaceCheckpoint
from mlc_serve.checkpoint.mlc import MLCCheckpoint
from mlc_serve.errors import CheckpointError
from tests.checkpoints import Shape, write_checkpoint
from tests.mlc_checkpoints import write_mlc_checkpoint

SMALL = Shape(hidden_size=16, num_layers=1, intermediate_size=24, vocab_size=300)


def test_the_config_file_tells_the_form(tmp_path: Path) -> None:
    """A directory with MLC's configuration is MLC's, even if the original config.json is there too."""
    assert isinstance(open_checkpoint(write_checkpoint(tmp_path, SMALL)), HuggingFaceCheckpoint)
    assert isinstance(open_checkpoint(write_mlc_checkpoint(tmp_path)), MLCCheckpoint)


def test_a_directory_without_a_model_is_refused(tmp_path: Path) -> None:
    """An empty directory is refused, and so is one that does not exist."""
    with pytest.raises(CheckpointError, match=r"neither mlc-chat-config\.json nor config\.json"):
        open_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="there is no such directory"):
        open_checkpoint(tmp_path / "nowhere")


@pytest.mark.parametrize("content", ["{", "[1]", "\xff", "[" * 100_000])
def test_a_config_that_is_no_json_object_is_named(tmp_path: Path, content: str) -> None:
    """The error is one line that names the file."""
    (tmp_path / "config.json").write_bytes(content.encode("latin-1"))

    with pytest.raises(CheckpointError, match=r"^\S+config\.json: [^\n]+$"):
        open_checkpoint(tmp_path)

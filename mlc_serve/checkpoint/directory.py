"""Opens a model directory, which may be Hugging Face's or MLC's."""

from __future__ import annotations

from pathlib import Path

from mlc_serve.checkpoint import huggingface, mlc
from mlc_serve.checkpoint.checkpoint import Checkpoint
from mlc_serve.errors import CheckpointError


def open_checkpoint(directory: Path) -> Checkpoint:
    """The checkpoint in a directory. The name of its config file shows its form.

    Raises CheckpointError if there is no config file, or if the model is not complete.
    """
    if not directory.is_dir():
        raise CheckpointError(f"{directory}: there is no such directory")
    if (directory / mlc.CONFIG_NAME).is_file():
        return mlc.MLCCheckpoint(directory)
    if (directory / huggingface.CONFIG_NAME).is_file():
        return huggingface.HuggingFaceCheckpoint(directory)
    raise CheckpointError(f"{directory}: there is neither {mlc.CONFIG_NAME} nor {huggingface.CONFIG_NAME}")

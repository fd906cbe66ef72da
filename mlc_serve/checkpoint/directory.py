"""Opens a model directory, which may be Hugging Face's or MLC's, or a GGUF file."""

from __future__ import annotations

from pathlib import Path

from mlc_serve.checkpoint import huggingface, mlc
from mlc_serve.checkpoint.checkpoint import Checkpoint
from mlc_serve.errors import CheckpointError

GGUF_SUFFIX = ".gguf"


def open_checkpoint(directory: Path) -> Checkpoint:
    """The checkpoint in a directory, or that of a GGUF file. The name of its config file shows its form.

    Raises CheckpointError if there is no config file, or if the model is not complete.
    """
    if directory.suffix.lower() == GGUF_SUFFIX and directory.is_file():
        return _opened_gguf(directory)
    if not directory.is_dir():
        raise CheckpointError(f"{directory}: there is no such directory")
    if (directory / mlc.CONFIG_NAME).is_file():
        return mlc.MLCCheckpoint(directory)
    if (directory / huggingface.CONFIG_NAME).is_file():
        return huggingface.HuggingFaceCheckpoint(directory)
    if any(path.suffix.lower() == GGUF_SUFFIX for path in directory.iterdir()):
        return _opened_gguf(directory)
    raise CheckpointError(
        f"{directory}: there is neither {mlc.CONFIG_NAME} nor {huggingface.CONFIG_NAME}, nor a GGUF file"
    )


def _opened_gguf(path: Path) -> Checkpoint:
    """The checkpoint of a GGUF file, or of the one in a directory."""
    # This loads the package gguf, which other models don't need.
    from mlc_serve.checkpoint.gguf.checkpoint import GGUFCheckpoint, gguf_in  # noqa: PLC0415

    file = path if path.is_file() else gguf_in(path)
    if file is None:
        raise CheckpointError(f"{path}: there is no first part of a GGUF file")
    return GGUFCheckpoint(file)

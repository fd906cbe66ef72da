"""Converts a model to MLC's format."""

from __future__ import annotations

from math import prod
from pathlib import Path

from tqdm import tqdm

from mlc_serve.checkpoint.directory import open_checkpoint
from mlc_serve.checkpoint.locate import locate
from mlc_serve.checkpoint.mlc_writer import tokenizer_directory, write_mlc_directory
from mlc_serve.errors import ConfigError, StartupError
from mlc_serve.host.disk import told_if_full
from mlc_serve.host.unfinished import unfinished
from mlc_serve.loading.architecture import checked_weights, sources_of
from mlc_serve.quantization.scheme import check_conversion, find_scheme


def convert_model(source: str, quantization: str, output: Path) -> None:
    """Write a model in MLC's format to `output`, which appears only when it is complete.

    Raises ConfigError if the quantization is unknown or the weights can't be converted to it, and if the
    output is not empty; CheckpointError if the model can't be read; StartupError if the output can't be
    written, or DiskFullError if the disk is full.
    """
    scheme = find_scheme(quantization)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ConfigError(f"{output} already exists; choose another --output, or remove it")
    checkpoint = open_checkpoint(locate(source))
    check_conversion(checkpoint.quantization, scheme.name)
    tokenizer_directory(checkpoint)
    shapes = dict(checked_weights(checkpoint))
    total = sum(map(prod, shapes.values()))
    folder = output.absolute().parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with unfinished(folder, output.name) as content, told_if_full(folder):
            with tqdm(total=total, desc="converting", unit=" weights", unit_scale=True, disable=None) as bar:
                write_mlc_directory(sources_of(checkpoint), shapes, scheme, content, bar.update)
            if output.exists():
                output.rmdir()
            content.rename(output)
    except OSError as error:
        raise StartupError(f"{output} can't be written: {error}") from error

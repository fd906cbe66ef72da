"""Converting a model to MLC's form, as a function."""

from __future__ import annotations

from math import prod
from pathlib import Path

from tqdm import tqdm

from mlc_serve.checkpoint.directory import open_checkpoint
from mlc_serve.checkpoint.locate import locate
from mlc_serve.checkpoint.mlc_writer import write_mlc_directory
from mlc_serve.errors import ConfigError, StartupError
from mlc_serve.host.disk import told_if_full
from mlc_serve.host.unfinished import unfinished
from mlc_serve.loading.architecture import checked_architecture, sources_of
from mlc_serve.quantization.scheme import check_conversion, find_scheme


def convert_model(source: str, quantization: str, output: Path) -> None:
    """Write a model in MLC's form to `output`, which is there whole or not at all.

    Raises ConfigError for an unknown quantization, one that the weights can't be turned into, and an output
    that holds something; CheckpointError for the model, StartupError if the output can't be written, which is
    DiskFullError if there is no room.
    """
    scheme = find_scheme(quantization)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ConfigError(f"{output} is there already; choose another --output, or remove it")
    checkpoint = open_checkpoint(locate(source))
    check_conversion(checkpoint.quantization, scheme.name)
    shapes = dict(checked_architecture(checkpoint).weights())
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

"""Converting a model to MLC's form, as a function."""

from __future__ import annotations

import shutil
import tempfile
from math import prod
from pathlib import Path

from tqdm import tqdm

from mlc_serve.checkpoint.directory import open_checkpoint
from mlc_serve.checkpoint.locate import locate
from mlc_serve.checkpoint.mlc_writer import write_mlc_directory
from mlc_serve.compiler.parameters import parameter_shapes
from mlc_serve.errors import ConfigError, StartupError
from mlc_serve.quantization.scheme import check_conversion, find_scheme


def convert_model(source: str, quantization: str, output: Path) -> None:
    """Write a model in MLC's form to `output`, which is there whole or not at all.

    Raises ConfigError for an unknown quantization, one that the weights can't be turned into, and an output
    that holds something; CheckpointError for the model, StartupError if the output can't be written.
    """
    scheme = find_scheme(quantization)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ConfigError(f"{output} is there already; choose another --output, or remove it")
    checkpoint = open_checkpoint(locate(source))
    check_conversion(checkpoint.quantization, scheme.name)
    shapes = parameter_shapes(checkpoint.model_type, checkpoint.config)
    total = sum(map(prod, shapes.values()))
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
        try:
            with tqdm(total=total, desc="converting", unit=" weights", unit_scale=True, disable=None) as bar:
                write_mlc_directory(checkpoint, shapes, scheme, unfinished, bar.update)
            unfinished.chmod(0o755)  # mkdtemp's are for their maker alone
            if output.exists():
                output.rmdir()
            unfinished.rename(output)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        raise StartupError(f"{output} can't be written: {error}") from error

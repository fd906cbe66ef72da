"""Compiling a model's library, as a function. Runs in a process of its own, so that a server never holds a
compiler.
"""

from __future__ import annotations

from pathlib import Path

from mlc_serve.checkpoint.directory import open_checkpoint
from mlc_serve.checkpoint.locate import locate
from mlc_serve.compiler.library import compile_library
from mlc_serve.compiler.target import target_for
from mlc_serve.quantization.scheme import choose_scheme


def compile_model(
    model: str, quantization: str | None, opt: str, device: str, arch: str | None, output: Path
) -> None:
    """Compile the library of a model directory for a kind of device and write it to `output`.

    Raises StartupError: CheckpointError, ConfigError or CompileError.
    """
    checkpoint = open_checkpoint(locate(model))
    scheme = choose_scheme(quantization, checkpoint.quantization, device)
    target = target_for(device, arch)
    compile_library(checkpoint.model_type, checkpoint.config, scheme.name, target, output, opt)

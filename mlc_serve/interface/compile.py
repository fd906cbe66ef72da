"""Compiling a model's library, as a function. Runs in a process of its own, so that a server never holds a
compiler.
"""

from __future__ import annotations

from pathlib import Path

from tqdm import tqdm

from mlc_serve.checkpoint.directory import open_checkpoint
from mlc_serve.checkpoint.locate import locate
from mlc_serve.compiler.library import STAGES, compile_library
from mlc_serve.compiler.target import target_for
from mlc_serve.quantization.scheme import choose_scheme

_BAR = "{n_fmt}/{total_fmt} {desc} {elapsed}"


def compile_model(
    model: str, quantization: str | None, opt: str, device: str, arch: str | None, output: Path
) -> None:
    """Compile the library of a model directory for a kind of device and write it to `output`.

    Raises StartupError: CheckpointError, ConfigError or CompileError.
    """
    checkpoint = open_checkpoint(locate(model))
    scheme = choose_scheme(quantization, checkpoint.quantization, device)
    target = target_for(device, arch)
    with tqdm(total=len(STAGES), bar_format=_BAR, disable=None, leave=False) as bar:

        def report(stage: str) -> None:
            bar.set_description_str(stage)
            bar.update()
            if bar.disable:  # no terminal: lines, which a parent process reads
                print(f"{STAGES.index(stage) + 1}/{len(STAGES)} {stage}", flush=True)

        compile_library(checkpoint.model_type, checkpoint.config, scheme.name, target, output, opt, report)

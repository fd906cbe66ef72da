"""Compiles a model's library. Runs in its own process, so that a server never has a compiler in memory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from mlc_serve.checkpoint.directory import open_checkpoint
from mlc_serve.checkpoint.locate import locate
from mlc_serve.compiler.library import STAGES, Report, compile_eagle, compile_library
from mlc_serve.compiler.target import target_for
from mlc_serve.errors import CompileError
from mlc_serve.host.disk import check_room, told_if_full
from mlc_serve.host.processes import children_end
from mlc_serve.host.unfinished import unfinished
from mlc_serve.loading.architecture import check_checkpoint, scheme_for, served_config
from mlc_serve.loading.draft_model import decoder_of
from mlc_serve.loading.eagle_model import read_eagle_model
from mlc_serve.loading.sliding_window import choose_window

# More bytes than compilers and linkers need for the largest models. Checked first because LLVM ends the
# process if a disk is full.
_ROOM = 16 << 20
_BAR = "{n_fmt}/{total_fmt} {desc} {elapsed}"


def compile_model(
    model: str,
    quantization: str | None,
    opt: str,
    device: str,
    arch: str | None,
    output: Path,
    context_window_size: int | None = None,
    sliding_window_size: int | None = None,
    attention_sink_size: int | None = None,
    taps: Sequence[int] = (),
) -> None:
    """Compile the library of a model directory for a device, such as `cpu` or `cuda:1`, and write it to
    `output`, which appears only when it is complete. The compilers' temporary files are in the same
    directory. `context_window_size` matters to models that rotate long sequences differently, and the two
    sizes after it are settings of the server, which must be those that the library is compiled with. `taps`
    are layers whose states the library gives for a model that drafts (see `models.taps`).

    Raises StartupError: CheckpointError, ConfigError, CompileError or DiskFullError.
    """
    checkpoint = open_checkpoint(locate(model))
    check_checkpoint(checkpoint)
    kind = device.partition(":")[0]
    scheme = scheme_for(checkpoint, quantization, kind)
    window = choose_window(sliding_window_size, attention_sink_size, checkpoint, kind)
    target = target_for(device, arch)

    def compile_to(library: Path, report: Report) -> None:
        config = served_config(checkpoint, context_window_size, window)
        compile_library(checkpoint.model_type, config, scheme.name, target, library, opt, report, taps)

    _write(output, compile_to)


def compile_draft_model(
    model: str,
    drafts_for: str,
    quantization: str | None,
    opt: str,
    device: str,
    arch: str | None,
    output: Path,
) -> None:
    """Compile the library of an EAGLE draft model, as compile_model does. `drafts_for` is the model that it
    drafts for, which gives what the draft model lacks. Raises StartupError.
    """
    checkpoint = open_checkpoint(locate(model))
    eagle = read_eagle_model(checkpoint, decoder_of(open_checkpoint(locate(drafts_for)), "eagle"))
    scheme = scheme_for(checkpoint, quantization, device.partition(":")[0])
    target = target_for(device, arch)
    _write(output, lambda library, report: compile_eagle(eagle, scheme.name, target, library, opt, report))


def _write(output: Path, compile_to: Callable[[Path, Report], object]) -> None:
    """Let `compile_to` write a file, which then appears as `output`."""
    folder = output.absolute().parent
    if not folder.is_dir():
        raise CompileError(f"{output} can't be written: {output.parent} is not a directory")
    try:
        with unfinished(folder, output.name) as content, told_if_full(folder), _tools_working_in(content):
            check_room(folder, _ROOM)
            library = content / output.name
            with _reporting() as report:
                compile_to(library, report)
            library.replace(output)
    except OSError as error:
        raise CompileError(f"{output} can't be written: {error.strerror}") from error


@contextmanager
def _reporting() -> Iterator[Report]:
    """Yield what shows the stage that begins."""
    with tqdm(total=len(STAGES), bar_format=_BAR, disable=None, leave=False) as bar:

        def report(stage: str) -> None:
            bar.set_description_str(stage)
            bar.update()
            if bar.disable:  # without a terminal, print lines, which a parent process reads
                print(f"{STAGES.index(stage) + 1}/{len(STAGES)} {stage}", flush=True)

        yield report


@contextmanager
def _tools_working_in(directory: Path) -> Iterator[None]:
    """Make compilers and linkers put their temporary files into a directory. They end with the block."""
    before = tempfile.tempdir, os.environ.get("TMPDIR")
    tempfile.tempdir = os.environ["TMPDIR"] = str(directory)
    try:
        with children_end():
            yield
    finally:
        tempfile.tempdir = before[0]
        os.environ.pop("TMPDIR")
        if before[1] is not None:
            os.environ["TMPDIR"] = before[1]

"""Runs the compiler in a separate process, because it takes hundreds of megabytes that a server would keep
for nothing. That process ends when this one does.

The process runs `mlc_serve compile`. While it runs, the last line that it has printed names its stage. If it
fails, its exit code says which kind of error it was, and the last line of its stderr is the error's text.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from subprocess import Popen, TimeoutExpired

from tqdm import tqdm

from mlc_serve.errors import (
    CheckpointError,
    CompileError,
    ConfigError,
    DiskFullError,
    DownloadError,
    StartupError,
)
from mlc_serve.host.disk import disk_full, says_full
from mlc_serve.host.processes import running

_POLL_SECONDS = 0.5
_KINDS = {kind.exit_code: kind for kind in (ConfigError, CheckpointError, DownloadError, DiskFullError)}


def run_compiler(model: Path, options: Mapping[str, str], output: Path) -> None:
    """Compile a model's library into the file `output`, with these options of `mlc_serve compile`.

    Raises the StartupError that the compiler ended with, or CompileError if it can't be started or if it was
    killed.
    """
    flags = [f"--{name}={value}" for name, value in options.items()]
    command = [sys.executable, "-m", "mlc_serve", "compile", str(model), *flags, f"--output={output}"]
    # The programs that it starts report a full disk only in words, which are recognized only in English.
    env = {**os.environ, "LC_ALL": "C"}
    try:
        with running(command, env) as compiler, _bar() as bar:
            errors = _wait(compiler, bar)
    except OSError as error:
        raise CompileError(f"compiling {model} failed: {error}") from error
    if compiler.returncode < 0 and says_full(errors):  # LLVM aborts the process if a disk is full
        raise disk_full(output.parent)
    if compiler.returncode:
        raise _error(compiler.returncode, errors, f"compiling {model} failed")


def _bar() -> tqdm[None]:
    return tqdm(desc="compiling", bar_format="{desc} {elapsed}", disable=None, leave=False)


def _wait(compiler: Popen[bytes], bar: tqdm[None]) -> str:
    """Wait for the compiler to end and return its stderr."""
    while True:
        try:
            return compiler.communicate(timeout=_POLL_SECONDS)[1].decode(errors="replace")
        except TimeoutExpired as waiting:
            bar.set_description_str(f"compiling: {_stage(waiting.stdout or b'')}")


def _stage(output: bytes) -> str:
    """Return the last complete line that the compiler has written."""
    *whole, _ = output.decode(errors="replace").split("\n")
    return whole[-1] if whole else "starting"


def _error(code: int, errors: str, what: str) -> StartupError:
    """Return the error that the compiler ended with. A negative code is that of the signal that ended it."""
    if code < 0:
        return CompileError(f"{what}: {signal.Signals(-code).name} ended the compiler")
    last = next((line for line in reversed(errors.splitlines()) if line.strip()), "no message")
    kind = _KINDS.get(code, CompileError)
    return kind(f"{what}: {last.removeprefix('mlc_serve: error: ')}")

"""The error that results from how the compiler ends, tested with a script in its place."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mlc_serve.errors import (
    CheckpointError,
    CompileError,
    ConfigError,
    DiskFullError,
    DownloadError,
    StartupError,
)
from mlc_serve.loading.compiler_process import run_compiler

Compile = Callable[[str], None]


@pytest.fixture
def compile_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compile:
    """A function that runs lines of shell in place of the compiler; `$output` is the library's file."""

    def run(lines: str) -> None:
        script = tmp_path / "compiler"
        script.write_text(f"#!/bin/sh\nfor output; do output=${{output#--output=}}; done\n{lines}\n")
        script.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(script))
        run_compiler(Path("my-model"), {"device": "cuda:1", "opt": "O3"}, tmp_path / "model.so")

    return run


def test_it_is_the_command_with_these_options(compile_with: Compile, tmp_path: Path) -> None:
    """The compiler is our command with these options, and with LC_ALL=C for messages in English."""
    compile_with('echo "$@ $LC_ALL" > "$output"')
    assert (tmp_path / "model.so").read_text() == (
        f"-m mlc_serve compile my-model --device=cuda:1 --opt=O3 --output={tmp_path}/model.so C\n"
    )


@pytest.mark.parametrize(
    "kind", [StartupError, CompileError, ConfigError, CheckpointError, DownloadError, DiskFullError]
)
def test_the_kind_of_its_error_is_kept(compile_with: Compile, kind: type[StartupError]) -> None:
    """The error keeps its kind and its message; a kind without its own exit code becomes CompileError."""
    expected = CompileError if kind.exit_code == StartupError.exit_code else kind
    with pytest.raises(StartupError) as raised:
        compile_with(f"echo a warning >&2; echo 'mlc_serve: error: no luck' >&2; exit {kind.exit_code}")
    assert type(raised.value) is expected
    assert str(raised.value) == "compiling my-model failed: no luck"


def test_an_end_without_words_is_told(compile_with: Compile) -> None:
    """An end without a message is an error that says so, or names the signal, as when memory is short."""
    with pytest.raises(CompileError, match=r"^compiling my-model failed: no message$"):
        compile_with("exit 1")
    with pytest.raises(CompileError, match=r"^compiling my-model failed: SIGKILL ended the compiler$"):
        compile_with("echo a warning >&2; kill -KILL $$")


def test_llvm_that_finds_the_disk_full_is_told_as_that(compile_with: Compile, tmp_path: Path) -> None:
    """LLVM's own line about a full disk, with which it ends the process, becomes DiskFullError."""
    line = "LLVM ERROR: IO failure on output stream: No space left on device"
    with pytest.raises(DiskFullError, match=rf"^{tmp_path}: the disk is full; .* are free$"):
        compile_with(f"echo '{line}' >&2; kill -ABRT $$")

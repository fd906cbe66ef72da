"""The kind of error and the words with which the compiler ends, by a script in its place."""

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
    """Runs lines of shell instead of the compiler. `$output` is the library's file."""

    def run(lines: str) -> None:
        script = tmp_path / "compiler"
        script.write_text(f"#!/bin/sh\nfor output; do output=${{output#--output=}}; done\n{lines}\n")
        script.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(script))
        run_compiler(Path("my-model"), {"device": "cuda:1", "opt": "O3"}, tmp_path / "model.so")

    return run


def test_it_is_the_command_with_these_options(compile_with: Compile, tmp_path: Path) -> None:
    """And what it starts speaks English."""
    compile_with('echo "$@ $LC_ALL" > "$output"')
    assert (tmp_path / "model.so").read_text() == (
        f"-m mlc_serve compile my-model --device=cuda:1 --opt=O3 --output={tmp_path}/model.so C\n"
    )


@pytest.mark.parametrize(
    "kind", [StartupError, CompileError, ConfigError, CheckpointError, DownloadError, DiskFullError]
)
def test_the_kind_of_its_error_is_kept(compile_with: Compile, kind: type[StartupError]) -> None:
    """With its words. Kinds without an exit code of their own are told as that it could not be compiled."""
    expected = CompileError if kind.exit_code == StartupError.exit_code else kind
    with pytest.raises(StartupError) as raised:
        compile_with(f"echo a warning >&2; echo 'mlc_serve: error: no luck' >&2; exit {kind.exit_code}")
    assert type(raised.value) is expected
    assert str(raised.value) == "compiling my-model failed: no luck"


def test_an_end_without_words_is_told(compile_with: Compile) -> None:
    """As one by a signal is, which memory that is short may send."""
    with pytest.raises(CompileError, match=r"^compiling my-model failed: no message$"):
        compile_with("exit 1")
    with pytest.raises(CompileError, match=r"^compiling my-model failed: SIGKILL ended the compiler$"):
        compile_with("echo a warning >&2; kill -KILL $$")


def test_llvm_that_finds_the_disk_full_is_told_as_that(compile_with: Compile, tmp_path: Path) -> None:
    """It ends the process with a line of its own."""
    line = "LLVM ERROR: IO failure on output stream: No space left on device"
    with pytest.raises(DiskFullError, match=rf"^{tmp_path}: the disk is full; .* are free$"):
        compile_with(f"echo '{line}' >&2; kill -ABRT $$")

"""`mlc_serve compile`: its flags, its errors, and one whole run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlc_serve import cli
from mlc_serve.errors import EXIT_CHECKPOINT_ERROR, EXIT_CONFIG_ERROR
from mlc_serve.interface import compile as interface
from tests.checkpoints import Shape, write_checkpoint

ROOT = Path(__file__).parent.parent.parent
SMALL = Shape(hidden_size=16, num_layers=1, num_heads=2, num_kv_heads=1, intermediate_size=24, vocab_size=300)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Records how compile_model is called; nothing is compiled."""
    recorded: list[tuple[Any, ...]] = []
    monkeypatch.setattr(interface, "compile_model", lambda *arguments: recorded.append(arguments))
    return recorded


def test_flags_reach_the_compiler(calls: list[tuple[Any, ...]]) -> None:
    """All flags and their defaults do."""
    flags = "compile dir --quantization q0f16 --opt O1 --device cuda --arch sm_90a --output out.so"
    flags += " --context-window-size 8192 --sliding-window-size 64 --attention-sink-size 4 --taps 2,8"
    assert cli.main(flags.split()) == 0
    assert cli.main(["compile", "dir", "-o", "out.so"]) == 0
    assert calls == [
        ("dir", "q0f16", "O1", "cuda", "sm_90a", Path("out.so"), 8192, 64, 4, (2, 8)),
        ("dir", None, "O3", "cpu", None, Path("out.so"), None, None, None, ()),
    ]


@pytest.mark.parametrize(
    "flags",
    [
        "compile dir",
        "compile --output x",
        "compile dir --output x --qantization q",
        "compile dir --output x --drafts-for y --taps 1",
        "compile dir --output x --drafts-for y --sliding-window-size 64",
        "compile dir --output x --taps 1,-1",
        "compile dir --output x --taps=",
    ],
)
def test_a_bad_command_line_is_refused(
    calls: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str], flags: str
) -> None:
    """The error is one line, and the exit code is 2."""
    assert cli.main(flags.split()) == EXIT_CONFIG_ERROR
    assert capsys.readouterr().err.startswith("mlc_serve: error: ")
    assert calls == []


def test_a_missing_model_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It has its own exit code."""
    model = str(tmp_path / "nothing")
    assert cli.main(["compile", model, "--output", str(tmp_path / "x.so")]) == EXIT_CHECKPOINT_ERROR
    assert capsys.readouterr().err == f"mlc_serve: error: {model}: there is no such directory\n"


def test_a_whole_run_writes_a_library(tmp_path: Path) -> None:
    """It runs in its own process, as a user or a server starts it."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", SMALL)
    environment = os.environ | {"TVM_USE_RUNTIME_LIB": "1"}
    result = subprocess.run(
        [sys.executable, "-m", "mlc_serve", "compile", str(checkpoint), "--output", str(tmp_path / "x.so")],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["1/3 describing the model", "2/3 building kernels", "3/3 linking"]
    assert (tmp_path / "x.so").stat().st_size > 0

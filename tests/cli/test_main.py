"""The program's name and first words: commands, errors, exit codes."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mlc_serve import __version__, cli
from mlc_serve.errors import (
    CheckpointError,
    DeviceError,
    DiskFullError,
    DownloadError,
    PortInUseError,
    StartupError,
)

ROOT = Path(__file__).parent.parent.parent
COMMANDS = ("serve", "supervise", "chat", "models", "convert", "compile", "bench", "completion")


def error_of(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str]:
    """Exit code and stderr of a command line that fails."""
    code = cli.main(argv)
    printed = capsys.readouterr()
    assert printed.out == ""
    return code, printed.err


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        ([], "a command is missing: serve, "),
        ([], "type: mlc_serve serve"),
        (["serv"], "there is no command 'serv' (did you mean serve?)"),
        (["./my-model"], "(did you mean mlc_serve serve ./my-model?)"),
        (["models", "remov"], "(did you mean remove?); the commands are remove"),
        (["--port", "1"], "--port is a flag of serve, supervise, router and deploy, not of mlc_serve"),
        (["chat", "--port", "1"], "flag of serve, supervise, router and deploy, not of mlc_serve chat"),
        (
            ["compile", "dir", "--output", "x", "--mode", "local"],
            "supervise, router, deploy, chat and bench, not of",
        ),
        (["compile", "dir", "--output", "x", "--opt", "O4"], "'O4': expected one of O0, O1, O2, O3"),
        (["convert", "dir", "--output", "x"], "arguments are required: --quantization"),
        (["completion", "bsh"], "'bsh': expected one of bash, zsh, tcsh (did you mean bash?)"),
        (["serve", "--prot", "1"], "unrecognized argument --prot (did you mean --port?)"),
        (["serve", "--prot=1"], "did you mean --port?"),
        (["serve", "a", "b"], "unrecognized argument b"),
        (["serve", "--port", "high"], "argument --port: 'high': expected an integer from 0 to 65535"),
        (["serve", "--port"], "expected one argument"),
        (["serve", "--mode", "lokal"], "expected one of local, interactive, server (did you mean local?)"),
        (["serve", "--over", "opt=O1"], "unrecognized argument --over"),
        (["serve", "--overrides", "max_num_sequnce=1"], "did you mean max_num_sequence?"),
        (
            ["serve", "--overrides", "max_num_sequence=0"],
            "max_num_sequence=0: expected an integer of at least 1",
        ),
        (
            ["serve", "model", "--speculative-mode", "medusa"],
            "speculative_mode = medusa takes exactly one",
        ),
        (
            ["serve", "--embedding-model-lib", "x.so"],
            "embedding_model_lib is set, but embedding_model is not",
        ),
        (["serve", "--allow-origins", "[1]"], "expected a JSON list of texts"),
    ],
)
def test_a_bad_command_line_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], argv: list[str], part: str
) -> None:
    """Whatever is wrong with flags, keys or values, the error is one line that names it, without usage or
    traceback.
    """
    code, err = error_of(capsys, *argv)
    assert code == 2
    assert err.startswith("mlc_serve: error: ")
    assert err.count("\n") == 1
    assert part in err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StartupError("no"), 1),
        (DeviceError("no"), 1),
        (CheckpointError("no"), 65),
        (DownloadError("no"), 69),
        (DiskFullError("no"), 74),
        (PortInUseError("no"), 75),
    ],
)
def test_another_startup_error_has_its_exit_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: StartupError, code: int
) -> None:
    """An unusable model, an unusable device, a port in use and a wrong command line have different codes."""

    def fail(_arguments: object) -> int:
        raise error

    monkeypatch.setattr(cli.serve, "run", fail)
    assert error_of(capsys, "serve") == (code, "mlc_serve: error: no\n")


def test_ctrl_c_before_serving_is_quiet(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while a model loads ends with 130 and without a traceback."""

    def interrupt(_arguments: object) -> int:
        signal.raise_signal(signal.SIGINT)  # to this thread: others may be there, of tests before
        return 0

    monkeypatch.setattr(cli.serve, "run", interrupt)
    assert error_of(capsys, "serve") == (130, "")


def test_sigterm_before_serving_is_quiet(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM while a model loads ends with 143, as a shell reports it, and without a traceback."""

    def terminate(_arguments: object) -> int:
        signal.raise_signal(signal.SIGTERM)
        return 0

    monkeypatch.setattr(cli.serve, "run", terminate)
    assert error_of(capsys, "serve") == (143, "")


def test_python_dash_m_is_the_program() -> None:
    """`python -m mlc_serve --version` prints the version and exits with 0."""
    command = [sys.executable, "-m", "mlc_serve", "--version"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == f"mlc_serve {__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_ends_with_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The help of each command shows what to type."""
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    examples = capsys.readouterr().out.rpartition("example")[2]
    assert f"mlc_serve {command}" in examples


@pytest.mark.parametrize("argv", [["--help"], *([command, "--help"] for command in COMMANDS)])
def test_help_loads_nothing_heavy(argv: list[str]) -> None:
    """No command's help loads TVM, the web framework or any other slow library."""
    heavy = "{'tvm', 'tvm_ffi', 'fastapi', 'uvicorn', 'pydantic', 'transformers', 'numpy', 'httpx2', 'shtab'}"
    program = f"""
import sys
from mlc_serve.cli import main
try:
    main({argv!r})
except SystemExit:
    print(sorted({heavy} & set(sys.modules)))
"""
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == "[]"

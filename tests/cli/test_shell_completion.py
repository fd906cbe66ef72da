"""`mlc_serve completion`: what shells make of the scripts."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from mlc_serve import cli


def script(capsys: pytest.CaptureFixture[str], shell: str) -> str:
    """The script that the command prints."""
    assert cli.main(["completion", shell]) == 0
    return capsys.readouterr().out


def completed(source: str, words: str, cwd: Path) -> set[str]:
    """What bash offers for the last of `words` after loading the script."""
    typed = words.split(" ")
    line = (
        f"{source}\nCOMP_WORDS=({shlex.join(typed)}); COMP_CWORD={len(typed) - 1}\n"
        "$(complete -p mlc_serve | sed 's/.*-F \\([^ ]*\\).*/\\1/')\n"
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    result = subprocess.run(["bash", "-c", line], cwd=cwd, capture_output=True, text=True, check=True)
    return {word.strip() for word in result.stdout.splitlines()}


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """It completes commands, only the command's own flags, choices, and directories for models."""
    source = script(capsys, "bash")
    assert completed(source, "mlc_serve co", tmp_path) == {"convert", "compile", "completion"}
    assert completed(source, "mlc_serve serve --po", tmp_path) == {"--port"}
    assert completed(source, "mlc_serve chat --po", tmp_path) == {""}
    assert completed(source, "mlc_serve chat --mode lo", tmp_path) == {"local"}
    assert completed(source, "mlc_serve models re", tmp_path) == {"remove"}

    (tmp_path / "my-model").mkdir()
    (tmp_path / "my-file").touch()
    assert completed(source, "mlc_serve convert my", tmp_path) == {"my-model"}


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells_have_scripts(capsys: pytest.CaptureFixture[str], shell: str) -> None:
    """The scripts contain every command."""
    commands = {"serve", "chat", "models", "convert", "compile", "bench"}
    assert commands <= set(re.findall(r"\w+", script(capsys, shell)))

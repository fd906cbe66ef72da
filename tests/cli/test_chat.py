"""`mlc_serve chat`: its flags, and one whole run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlc_serve import cli
from mlc_serve.cli.server_url import KEY_VARIABLE
from mlc_serve.config import ChatConfig
from mlc_serve.interface import chat, chat_in_process
from mlc_serve.loaded_model import LoadedModel

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Records how chats are started; none is."""
    recorded: list[tuple[Any, ...]] = []

    def begin(*arguments: Any) -> int:
        recorded.append(arguments)
        return 0

    monkeypatch.setattr(chat_in_process, "chat_in_process", begin)
    monkeypatch.setattr(chat, "chat_with_server", begin)
    return recorded


def run(line: str) -> int:
    """The exit code of a command line."""
    return cli.main(line.split())


def test_flags_reach_the_chat(calls: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    """They are the engine's if a model is loaded, and the server's address and key otherwise."""
    assert run("chat dir --device cpu --mode interactive --system Hi --temperature 0") == 0
    engine, launch, config = calls.pop()
    assert (engine.model, engine.mode, launch.device) == ("dir", "interactive", "cpu")
    assert config == ChatConfig(system="Hi", temperature=0)

    monkeypatch.setenv(KEY_VARIABLE, "from the environment")
    assert run("chat --url https://host/api/v1/ --seed 3 --top-p 0.5 --max-tokens 7") == 0
    assert calls.pop() == (
        "https://host/api/v1",
        None,
        "from the environment",
        ChatConfig(seed=3, top_p=0.5, max_tokens=7),
        None,
    )


@pytest.mark.parametrize(
    ("flags", "fault"),
    [
        ("--url http://host --mode local", "--mode can't be combined with --url"),
        ("--url http://host --device cpu", "--device can't be combined with --url"),
        ("--api-key k", "--api-key is only for a running server"),
        ("--temperature 3", "'3': expected a number from 0 to 2"),
        (
            "--max-queued-tokens 1",
            "--max-queued-tokens is a flag of serve, supervise, router and deploy, not",
        ),
        ("--additional-models x", "it needs a --speculative-mode such as small_draft"),
    ],
)
def test_what_has_no_effect_is_refused(
    calls: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str], flags: str, fault: str
) -> None:
    """The flag is named before anything is loaded."""
    assert cli.main(["chat", *flags.split()]) == 2
    assert fault in capsys.readouterr().err
    assert calls == []


def test_a_pipe_gets_the_answer_alone(tiny_checkpoint: Path, tiny_model: LoadedModel) -> None:
    """A whole run on a cached model prints one line, and nothing on stderr."""
    flags = ["--device", "cpu", "--quantization", "q0f32", "--temperature", "0", "--max-tokens", "1"]
    result = subprocess.run(
        [sys.executable, "-m", "mlc_serve", "chat", str(tiny_checkpoint), *flags],
        cwd=ROOT,
        input="hello\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.endswith("\n")

"""How a configuration becomes a command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from mlc_serve.config.api_keys import keys_in
from mlc_serve.errors import CommandError, ConfigError
from mlc_serve.supervisor import MLCServerConfig
from mlc_serve.supervisor.command import command_for, environment_for


@pytest.fixture
def mlc_llm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program named mlc_llm, the only one on PATH."""
    program = tmp_path / "mlc_llm"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return program


def test_the_default_is_this_package() -> None:
    """By default this package serves the demo model on the port that was found, up to 32 000 tokens."""
    assert command_for(MLCServerConfig().settings(), 8003) == [
        sys.executable,
        *("-m", "mlc_serve", "serve", "--port=8003", "--overrides", "context_window_limit=32000"),
    ]


def test_every_setting_is_passed_on() -> None:
    """The command line has every setting that differs from the defaults, and the model first."""
    config = MLCServerConfig(
        model="dir",
        command=("run", "this"),
        device="cpu",
        log_level="DEBUG",
        api_keys=("k",),
        mode="server",
        additional_models=("other", ("third", "lib.so")),
        prefill_mode="chunked",
        max_num_sequence=3,
        max_tokens=512,
        verbose=False,
    )
    words = "--mode=server --additional-models other third,lib.so --prefill-mode=chunked --overrides"
    assert command_for(config.settings(), 9) == [
        *("run", "this", "dir", "--device=cpu", "--port=9", "--log-level=debug"),
        *words.split(),
        "max_num_sequence=3;context_window_limit=512;verbose=false",
    ]


def test_api_keys_are_passed_on_where_nobody_sees_them() -> None:
    """Our server gets whole keys, even with commas and accents, in its environment; `mlc_llm` gets none."""
    config = MLCServerConfig(model="dir", api_keys=("a,b", "clé"))
    (variable,) = environment_for(config.settings()).items()
    assert variable[0] == "MLC_SERVE_API_KEY"
    assert list(keys_in(variable[1])) == ["a,b", "clé"]
    assert environment_for(MLCServerConfig(model="dir").settings()) == {}
    admin = MLCServerConfig(model="dir", admin_api_key="secret").settings()
    assert environment_for(admin) == {"MLC_SERVE_ADMIN_API_KEY": "secret"}
    assert "secret" not in " ".join(command_for(admin, 1))
    mlc_llm = MLCServerConfig(model="dir", command="mlc_llm", api_keys=("k",))
    assert environment_for(mlc_llm.settings()) == {}


def test_mlc_llm_gets_the_flags_that_it_knows(mlc_llm: Path) -> None:
    """mlc_llm gets the flags that are like ours; the optimization level becomes an override."""
    config = MLCServerConfig(
        command="mlc_llm", model="dir", opt="O2", mode="server", allow_origins=("x",), max_num_sequence=2
    )
    assert command_for(config.settings(), 9) == [
        *(str(mlc_llm), "serve", "dir", "--port=9", '--allow-origins=["x"]', "--mode=server"),
        *("--overrides", "opt=O2;max_num_sequence=2"),
    ]


def test_mlc_llm_has_no_limit_but_the_window(mlc_llm: Path) -> None:
    """A limit that was set becomes mlc_llm's context window."""
    config = MLCServerConfig(command="mlc_llm", model="dir", max_tokens=4096)
    assert command_for(config.settings(), 9)[-1] == "context_window_size=4096"


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"log_level": "DEBUG"}, "log_level is 'debug'"),
        ({"quantization": "q0f16"}, "quantization is 'q0f16'"),
        ({"verbose": False}, "verbose is False"),
        ({"api_keys": ("a", "b")}, "no more than one key"),
        ({"model": None}, "model is None"),
    ],
)
def test_mlc_llm_is_not_told_what_it_does_not_know(
    mlc_llm: Path, settings: dict[str, Any], part: str
) -> None:
    """An option that mlc_llm lacks is refused by name rather than dropped."""
    with pytest.raises(ConfigError, match=part):
        command_for(MLCServerConfig(**{"command": "mlc_llm", "model": "dir", **settings}).settings(), 9)


def test_mlc_llm_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If mlc_llm is not on PATH, the error says so."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CommandError, match="mlc_llm is not on PATH"):
        command_for(MLCServerConfig(command="mlc_llm", model="dir").settings(), 9)

"""`mlc_serve deploy` writes what Serve reads, or says what is missing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlc_serve.cli import main
from mlc_serve.errors import EXIT_CONFIG_ERROR, EXIT_STARTUP_ERROR
from mlc_serve.ray.arguments import read_arguments


def written(tmp_path: Path, *flags: str) -> dict[str, Any]:
    """The configuration that a command line writes."""
    file = tmp_path / "serve.yaml"
    assert main(["deploy", *flags, "--config", str(file)]) == 0
    config: dict[str, Any] = yaml.safe_load(file.read_text())
    return config


def test_the_configuration_is_what_serve_reads(tmp_path: Path) -> None:
    """The file names the builder and its arguments, and where Serve's proxies listen."""
    listening = ("--host", "0.0.0.0", "--port", "9000", "--root-path", "/llm")
    assert written(tmp_path, "org/name", "--replicas", "2", "--mode", "server", *listening) == {
        "proxy_location": "EveryNode",
        "http_options": {"host": "0.0.0.0", "port": 9000},
        "applications": [
            {
                "name": "mlc_serve",
                "route_prefix": "/llm",
                "import_path": "mlc_serve.ray:build_app",
                "args": {
                    "model": "org/name",
                    "mode": "server",
                    "served_model_name": ["org/name"],
                    "root_path": "/llm",
                    "replicas": "2",
                },
            }
        ],
    }


def test_a_directory_is_found_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replicas run elsewhere, so that paths become absolute; clients still use the name as given."""
    (tmp_path / "my-model").mkdir()
    monkeypatch.chdir(tmp_path)
    command = ["./my-model", "--additional-models", "org/name", "my-model,none.so"]
    (application,) = written(tmp_path, *command)["applications"]
    settings = read_arguments(application["args"])
    directory = str(tmp_path / "my-model")
    assert settings.engine.model == directory
    assert settings.engine.additional_models == ("org/name", (directory, "none.so"))
    assert settings.server.served_model_name == ("./my-model",)


def test_a_dry_run_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    """--dry-run deploys nothing."""
    assert main(["deploy", "--dry-run", "--replicas", "auto", "--overrides", "max_num_sequence=3"]) == 0
    (application,) = yaml.safe_load(capsys.readouterr().out)["applications"]
    assert application["args"] == {"max_num_sequence": 3, "replicas": "auto"}


def test_keys_are_not_put_where_all_can_read_them(capsys: pytest.CaptureFixture[str]) -> None:
    """A key on the command line would be part of Serve's configuration."""
    assert main(["deploy", "--api-key", "secret", "--dry-run"]) == EXIT_CONFIG_ERROR
    said = capsys.readouterr()
    assert "api_key_file" in said.err
    assert "secret" not in said.out + said.err


def test_without_ray_one_line_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If Ray is not installed, the command fails as other errors of configuration do."""
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "mlc_serve.ray.cluster", raising=False)
    assert main(["deploy"]) == EXIT_CONFIG_ERROR
    (line,) = capsys.readouterr().err.splitlines()
    assert "pip install 'mlc_serve[ray]'" in line


def test_a_file_that_cant_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A directory in the file's place is one line on stderr."""
    assert main(["deploy", "--config", str(tmp_path)]) == EXIT_STARTUP_ERROR
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path) in line

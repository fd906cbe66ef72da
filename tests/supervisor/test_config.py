"""MLCServerConfig has every setting, refuses what the declarations refuse, and survives JSON."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from pydantic import ValidationError

from mlc_serve.config import EngineConfig, LaunchConfig, ServerConfig, SupervisionConfig
from mlc_serve.errors import ConfigError
from mlc_serve.supervisor import MLCServerConfig
from mlc_serve.supervisor.settings import Settings

CHANGED: dict[str, Any] = {
    "model": "dir",
    "log_level": "debug",
    "port": 9,
    "additional_models": ["a", ["b", "lib.so"]],
    "api_keys": ["k"],
    "allow_origins": ["x", "y"],
    "command": "mlc_llm",
    "gpu_memory_utilization": 0.5,
    "mode": "server",
    "max_tokens": 100,
    "restart_delay": 2,
}


def test_the_defaults_are_those_of_the_declarations() -> None:
    """The defaults are those of the four declarations; only the supervisor's limit on tokens is added."""
    config = MLCServerConfig()
    assert (config.port, config.host, config.log_level) == (8000, "127.0.0.1", "INFO")
    assert config.max_tokens == 32_000
    assert (config.model, config.command) == (None, ("mlc_serve",))
    assert config.settings() == Settings.of(
        EngineConfig(), ServerConfig(), LaunchConfig(), SupervisionConfig()
    )
    assert config.settings().engine == EngineConfig(context_window_limit=32_000)


def test_every_setting_of_serve_is_a_field() -> None:
    """All options of `serve` can be set; the limit of the context window is max_tokens."""
    parts = (EngineConfig, ServerConfig, LaunchConfig, SupervisionConfig)
    names = {entry.name for part in parts for entry in fields(part)}
    assert set(MLCServerConfig.model_fields) == names - {"context_window_limit"}


def test_json_and_back() -> None:
    """A configuration is the same after a way through JSON, and its parts get the right types."""
    config = MLCServerConfig(**CHANGED)
    assert MLCServerConfig.model_validate_json(config.model_dump_json()) == config
    settings = config.settings()
    assert settings.engine.additional_models == ("a", ("b", "lib.so"))
    assert settings.server.api_keys == ("k",)
    assert (config.log_level, settings.server.log_level) == ("DEBUG", "debug")
    assert settings.supervision.command == ("mlc_llm",)


def test_parts_become_a_configuration() -> None:
    """A configuration made from parts has their settings, and the lower of two limits on tokens."""
    parts = (ServerConfig(port=1), LaunchConfig(device="cpu"), SupervisionConfig(max_tokens=500))
    config = MLCServerConfig.of(EngineConfig(model="m", context_window_limit=400), *parts)
    assert (config.port, config.device, config.model, config.max_tokens) == (1, "cpu", "m", 400)
    assert MLCServerConfig.of(EngineConfig(), *parts).max_tokens == 500


@pytest.mark.parametrize("values", [{}, CHANGED, {"max_single_sequence_length": 64_000}])
def test_settings_become_the_same_configuration(values: dict[str, Any]) -> None:
    """Settings and a configuration can be turned into each other without loss."""
    config = MLCServerConfig(**values)
    assert MLCServerConfig.of(*config.settings()) == config
    assert MLCServerConfig.of(*config.settings()).settings() == config.settings()


@pytest.mark.parametrize(
    ("values", "error", "part"),
    [
        ({"port": 70_000}, ConfigError, "port is 70000: expected an integer from 0 to 65535"),
        ({"max_tokens": 1}, ConfigError, "max_tokens is 1"),
        ({"restart_limit": -1}, ConfigError, "restart_limit is -1"),
        ({"command": ()}, ConfigError, "command"),
        (
            {"model": "m", "speculative_mode": "eagle"},
            ConfigError,
            "speculative_mode = eagle takes exactly one",
        ),
        ({"port": "high"}, ValidationError, "port\n"),
        ({"log_level": "loud"}, ValidationError, "log_level\n"),
        ({"prot": 1}, ValidationError, "prot\n"),
    ],
)
def test_what_is_wrong_is_named(values: dict[str, Any], error: type[Exception], part: str) -> None:
    """The error names a value out of range or of a wrong type, and an unknown field."""
    with pytest.raises(error) as raised:
        MLCServerConfig(**values)
    assert part in str(raised.value)


def test_it_is_frozen() -> None:
    """A configuration can't be changed, so that a running server's is not changed by accident."""
    with pytest.raises(ValidationError, match="frozen"):
        MLCServerConfig().port = 1  # type: ignore[attr-defined]
